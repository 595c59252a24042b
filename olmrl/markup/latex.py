r"""LaTeX that KaTeX does not know, rewritten to what it shows: the default mode's reading rules.

    readable(r"E = mc^2 \label{eq:e} \eqno(3)")     # E = mc^2
    readable(r"\ce{2H2O} \mbox{ at } \SI{20}{\celsius}")

Labels and equation numbers are not part of a formula and go; character references, boxes,
`eqnarray`, chemistry (mhchem) and units (siunitx) become what they look like. See
docs/formats.md#formulas. The work is linear in the text, and what is malformed stays as it is.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from functools import lru_cache

from olmrl.markup.chemistry import chemistry
from olmrl.markup.katex_engine import MAX_FORMULA_CHARS
from olmrl.markup.units import angle, number, physical, quantity, quantity_range, unit

MAX_DEPTH = 6
"""Commands inside arguments of commands that are rewritten."""

_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_SPACE = re.compile(r"\s*")
_OPTION = re.compile(r"\s*\[[^\[\]{}]{0,200}\]")
_NUMBER_OF_EQUATION = re.compile(r"\s*(?:\([^()]{0,40}\)|[\w.'*-]{1,20})")
_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{([A-Za-z]{1,20})(\*?)\}")
_SPACE_WITH_SCRIPT = re.compile(r"(?<!\\)(\\[,;:!>])\s*(?=[\^_])")
r"""KaTeX takes no script directly after a space, as in `20\,^\circ C`."""
_REFERENCE = re.compile(r"&(?:lt|gt|amp|nbsp|quot|#39|#x27);")
"""Character references that a formula has where it stands in HTML, as in a cell of a table."""
_DEGREE = re.compile(r"\\degree(?![A-Za-z])\s*|\N{DEGREE SIGN}")
_RAISED_DEGREE = re.compile(rf"\^\s*(?:(?:{_DEGREE.pattern})|\{{\s*(?:{_DEGREE.pattern})\s*\}})")
_TEXT_GROUP = re.compile(
    r"\\(?:text[a-z]*|mbox|makebox|hbox|tag|ce|pu|SI|si|qty|unit|num|ang)\*?(?:\[[^\[\]{}]{0,200}\])?(?=\s*\{)"
)
"""Where a formula is words, or has a language of its own."""
_ENVIRONMENTS = {
    "eqnarray": (r"\begin{array}{rcl}", r"\end{array}"),
    "multline": (r"\begin{gather*}", r"\end{gather*}"),
    "flalign": (r"\begin{align*}", r"\end{align*}"),
    "subequations": ("", ""),
    "displaymath": ("", ""),
    "math": ("", ""),
}

Rewrite = Callable[..., str]


def _nothing(*_: str) -> str:
    return ""


def _text(text: str) -> str:
    return rf"\text{{{text}}}"


def _named(command: str) -> Rewrite:
    return lambda text: rf"{command}{{{text}}}"


_COMMANDS: dict[str, tuple[int, Rewrite]] = {
    **dict.fromkeys(("label", "tag", "vspace"), (1, _nothing)),
    **dict.fromkeys(("nonumber", "notag", "xspace", "noindent", "protect"), (0, _nothing)),
    **dict.fromkeys(("displaylimits", "boldmath"), (0, _nothing)),
    "hfill": (0, lambda: r"\quad "),
    **dict.fromkeys(("mbox", "makebox", "textsc", "textsl"), (1, _text)),
    **dict.fromkeys(("mathbbm", "mathds"), (1, _named(r"\mathbb"))),
    "ensuremath": (1, _named("")),
    **dict.fromkeys(("nicefrac", "sfrac"), (2, lambda over, under: f"{{{over}}}/{{{under}}}")),
    "textsuperscript": (1, lambda text: rf"^{{\text{{{text}}}}}"),
    "textsubscript": (1, lambda text: rf"_{{\text{{{text}}}}}"),
    "textdegree": (0, lambda: r"{}^{\circ}"),
    "ce": (1, chemistry),
    "pu": (1, physical),
    "num": (1, number),
    "ang": (1, angle),
    **dict.fromkeys(("si", "unit"), (1, unit)),
    **dict.fromkeys(("SI", "qty"), (2, quantity)),
    **dict.fromkeys(("SIrange", "qtyrange"), (3, quantity_range)),
    "numrange": (2, lambda low, high: quantity_range(low, high, "")),
}
_COMMAND = re.compile(
    rf"\\(?:({'|'.join(sorted(_COMMANDS, key=len, reverse=True))})\*?|(l?eqno))(?![A-Za-z])"
)
_WITH_OPTION = frozenset({"SI", "qty", "si", "unit", "num", "ang", "SIrange", "qtyrange"}) | {
    *("numrange", "makebox")
}
_RAW = frozenset({"ce", "pu", "SI", "qty", "si", "unit", "num", "ang", "SIrange", "qtyrange"})
"""Commands with a language of their own inside, which is not LaTeX's."""


@lru_cache(maxsize=16_384)
def readable(latex: str) -> str:
    """A formula in words that KaTeX knows; unchanged where no rule applies."""
    latex = _REFERENCE.sub(lambda found: html.unescape(found[0]), latex)
    if (
        not ("\\" in latex or "\N{DEGREE SIGN}" in latex)
        or len(latex) > MAX_FORMULA_CHARS
        or not _is_balanced(latex)
    ):
        return latex
    if "\\degree" in latex or "\N{DEGREE SIGN}" in latex:
        latex = _degrees(latex)
    latex = _SPACE_WITH_SCRIPT.sub(r"\1{}", latex)
    latex = _ENVIRONMENT.sub(_environment, latex)
    return _rewritten(latex, MAX_DEPTH)


def _degrees(latex: str) -> str:
    """Degree signs as raised circles, but where the formula is words."""
    kept: list[str] = []
    at = 0
    while True:
        words = _TEXT_GROUP.search(latex, at)
        part = latex[at : words.start() if words else len(latex)]
        part = _RAISED_DEGREE.sub(lambda _: r"^{\circ}", part)
        kept.append(_DEGREE.sub(lambda _: r"{}^{\circ}", part))
        if words is None:
            return "".join(kept)
        at = words.end()
        while latex.startswith("{", _after_space(latex, at)):
            at = group_end(latex, at) or len(latex)
        kept.append(latex[words.start() : at])


def _is_balanced(latex: str) -> bool:
    """Whether every group is closed, as it must be to be set at all."""
    depth = 0
    for found in _BRACE.finditer(latex):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if depth < 0:
            return False
    return depth == 0


def _environment(found: re.Match[str]) -> str:
    ends = _ENVIRONMENTS.get(found[2])
    return found[0] if ends is None else ends[found[1] == "end"]


def _rewritten(latex: str, depth: int) -> str:
    kept: list[str] = []
    at = 0
    while (found := _COMMAND.search(latex, at)) is not None:
        if _is_escaped(latex, found.start()):
            kept.append(latex[at : found.start() + 1])
            at = found.start() + 1
            continue
        kept.append(latex[at : found.start()])
        shown, at = _shown(latex, found, depth)
        kept.append(shown)
    return "".join(kept) + latex[at:]


def _is_escaped(text: str, at: int) -> bool:
    """Whether an odd number of backslashes stands before a place: `\\\\tag` is a new line."""
    before = text[:at][-100:]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _shown(latex: str, found: re.Match[str], depth: int) -> tuple[str, int]:
    """What a command shows, and where it ends; itself if its arguments are not there."""
    if found[2]:
        number_end = _NUMBER_OF_EQUATION.match(latex, found.end())
        end = number_end.end() if number_end else group_end(latex, found.end())
        return "", found.end() if end is None else end
    name = found[1]
    count, rewrite = _COMMANDS[name]
    end = found.end()
    if name in _WITH_OPTION:
        while (option := _OPTION.match(latex, end)) is not None:
            end = option.end()
    given: list[str] = []
    for _ in range(count):
        start = _after_space(latex, end)
        stop = group_end(latex, start)
        if stop is None or stop == start:
            return found[0], found.end()
        braced = latex.startswith("{", start)
        given.append(latex[start + 1 : stop - 1] if braced else latex[start:stop])
        end = stop
    if depth and name not in _RAW:
        given = [_rewritten(text, depth - 1) for text in given]
    shown = rewrite(*given)
    needs_space = not count and latex[end : end + 1].isalpha() and shown.endswith("}") is False
    return shown + " " * needs_space, end


def _after_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return at if space is None else space.end()


def group_end(text: str, at: int) -> int | None:
    r"""End of the braced group at a place, or of one character; None if the group is not closed.

    Escaped braces (`\{`) do not count.
    """
    at = _after_space(text, at)
    if not text.startswith("{", at):
        return min(len(text), at + 1)
    depth = 0
    for found in _BRACE.finditer(text, at):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if depth == 0:
            return found.end()
    return None
