r"""What a formula shows for certain, read from its LaTeX without rendering it.

Two formulas that show different letters cannot look alike, and a command that KaTeX does not know
cannot be rendered. Most misreadings are found out in this way, far faster than by rendering them.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache, lru_cache
from typing import NamedTuple

from olmrl.markup.katex_engine import katex_asset

_NAMED = frozenset(
    (
        *("sin", "cos", "tan", "cot", "csc", "sec", "sinh", "cosh", "tanh", "coth", "cth", "sh"),
        *("ch", "th", "arccos", "arcsin", "arctan", "cosec", "exp", "ker", "hom", "lim", "ln"),
        *("max", "min", "det", "dim", "Pr", "sup"),
    )
)
"""Commands that print their own name."""
_PARTLY_NAMED = frozenset(
    (
        *("arcctg", "arctg", "arg", "argmax", "argmin", "bmod", "cotg", "ctg", "deg", "gcd"),
        *("inf", "injlim", "lg", "liminf", "limsup", "log", "mod", "plim", "pmod", "projlim"),
        *("tg", "varinjlim", "varliminf", "varlimsup", "varprojlim"),
    )
)
"""Commands that print letters of their own name, not the same ones in every place."""
_SIGNS = frozenset(
    (
        *("alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta"),
        *("iota", "kappa", "lambda", "mu", "nu", "xi", "pi", "rho", "sigma", "tau"),
        *("upsilon", "phi", "varphi", "chi", "psi", "omega", "partial", "nabla", "sum", "prod"),
    )
)
"""Commands that print one sign, which no other one prints."""
_UNTOLD = frozenset(
    (
        # other letters than those of their names
        *("AA", "Alpha", "Bbbk", "Beta", "Chi", "Complex", "Epsilon", "Eta", "Iota", "KaTeX"),
        *("Kappa", "LaTeX", "Mu", "N", "Nu", "Omicron", "R", "Reals", "Rho", "Tau", "TeX", "Z"),
        *("Zeta", "aa", "allowbreak", "angln", "cnums", "colon", "copyright", "natnums"),
        *("nobreak", "overlinesegment", "pod", "reals", "textcopyright", "textregistered"),
        "underlinesegment",
        # letters that are no text: lengths, colours
        *("above", "color", "colorbox", "fcolorbox", "genfrac", "hskip", "hspace", "kern"),
        *("mathchoice", "mkern", "mskip", "raisebox", "rule", "smash", "textcolor", "tmspace"),
    )
)
_RAW = frozenset(
    (
        *("TextOrMath", "char", "href", "htmlClass", "htmlData", "htmlId", "htmlStyle", "url"),
        *("includegraphics", "verb", "begin", "end"),
        # those that make other commands
        *("def", "edef", "expandafter", "futurelet", "gdef", "global", "let", "long"),
        *("newcommand", "noexpand", "providecommand", "renewcommand", "xdef"),
    )
)
"""Commands after which anything may stand for anything."""
_PLAIN = re.compile(
    r"(?:[pbBvV]?matrix|[dr]{0,2}cases|smallmatrix|align(?:ed)?\*?|gather(?:ed)?\*?|split"
    r"|equation\*?)"
)
"""Environments without arguments."""
_TOKEN = re.compile(r"\\(?:(?:begin|end)\s*\{([A-Za-z]+\*?)\}|([A-Za-z]+)|.)", re.DOTALL)
"""A command: of an environment with its name, of letters, or of one sign."""
_ODD = re.compile(r"[^\x00-\x7e]|\\\\[*\s]*\[")
"""Other scripts, and line spacing."""
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_LETTER = re.compile("[A-Za-z0-9]")


class Printed(NamedTuple):
    """What a formula shows."""

    signs: Counter[str]
    """How often each ASCII letter and digit, and each sign that has one command only, by its name.
    """
    unsure: frozenset[str]
    """Letters that may be shown more or less often."""


@lru_cache(maxsize=65_536)
def printed(latex: str) -> Printed | None:
    """What a formula shows that KaTeX can render; None if that cannot be told.

    Args:
        latex: The formula, in words that KaTeX knows (`olmrl.markup.latex.readable`).
    """
    commands = _commands(latex)
    if commands is None or _ODD.search(latex):
        return None
    names, environments = commands
    if not _UNTOLD.isdisjoint(names) or not all(map(_PLAIN.fullmatch, environments)):
        return None
    named = "".join(name for name in names if name in _NAMED)
    signs = Counter(_LETTER.findall(_TOKEN.sub(" ", latex) + named))
    signs.update(name for name in names if name in _SIGNS)
    return Printed(signs, frozenset("".join(n for n in names if n in _PARTLY_NAMED)))


@lru_cache(maxsize=65_536)
def is_unreadable(latex: str) -> bool:
    """Whether KaTeX certainly cannot render a formula: an unknown command, or an open group."""
    commands = _commands(latex)
    if commands is None:
        return False
    return _is_open(latex) or not all(
        known.issuperset(mine) for known, mine in zip(_known(), commands, strict=True)
    )


def cannot_show(hypothesis: str, reference: str) -> bool:
    """Whether a formula certainly does not show another one, or one of them cannot be rendered."""
    if is_unreadable(hypothesis) or is_unreadable(reference):
        return True
    there, wanted = printed(hypothesis), printed(reference)
    if there is None or wanted is None:
        return False
    unsure = there.unsure | wanted.unsure
    return any(
        there.signs[sign] < count for sign, count in wanted.signs.items() if sign not in unsure
    )


@lru_cache(maxsize=65_536)
def _commands(latex: str) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Names of a formula's commands and environments; None if some may stand for anything."""
    found = _TOKEN.findall(latex)
    names = tuple(name for _, name in found if name)
    odd = "%" in latex or "#" in latex or "@" in latex
    if odd or not _RAW.isdisjoint(names):
        return None
    return names, tuple(name for name, _ in found if name)


@cache
def _known() -> tuple[frozenset[str], frozenset[str]]:
    """What KaTeX may know: names of commands and of environments (any of its short strings)."""
    source = katex_asset("katex.min.js")
    commands = frozenset(re.findall(r"\\\\([A-Za-z]+)", source))
    return commands, frozenset(re.findall(r"[\"']([A-Za-z]{1,20}\*?)(?=[\"'])", source))


def _is_open(latex: str) -> bool:
    depth = 0
    for found in _BRACE.findall(latex):
        depth += {"{": 1, "}": -1}.get(found, 0)
        if depth < 0:
            return True
    return depth > 0
