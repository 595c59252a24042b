r"""Formulas of chemistry (`\ce{...}` of mhchem) as plain LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable

_ARROWS = {
    "<=>>": r"\rightleftharpoons",
    "<<=>": r"\rightleftharpoons",
    "<-->": r"\rightleftarrows",
    "<=>": r"\rightleftharpoons",
    "<->": r"\leftrightarrow",
    "->": r"\rightarrow",
    "<-": r"\leftarrow",
}
_NAMED_ARROWS = {r"\rightarrow": r"\xrightarrow", r"\leftarrow": r"\xleftarrow"}
_NAMED_ARROWS |= {
    r"\rightleftharpoons": r"\xrightleftharpoons",
    r"\leftrightarrow": r"\xleftrightarrow",
}
_TOKEN = re.compile(
    r"(?P<arrow>" + "|".join(map(re.escape, _ARROWS)) + r")(?P<over>\[[^\[\]]*\])?"
    r"(?P<under>\[[^\[\]]*\])?"
    r"|(?P<gas>(?<!\S)\^(?!\S))|(?P<solid>(?<!\S)v(?!\S))"
    r"|(?P<raised>[\^_](?:\{[^{}]*\}|[0-9]*[+-]?|[A-Za-z]|\\[A-Za-z]+))"
    r"|(?P<math>\$[^$]*\$|\\[A-Za-z]+\s*|\\.|\{[^{}]*\})"
    r"|(?P<part>[0-9]+/[0-9]+)|(?P<count>(?<![A-Za-z)\]}])[0-9]+\.[0-9]+|[0-9]+)"
    r"|(?P<letters>[A-Za-z]+)"
    r"|(?P<dot>\.|\*)|(?P<sign>[+-]+)|(?P<bond>[=#])|(?P<space>\s+)|(?P<other>.)",
    re.DOTALL,
)
_ENDS_CHUNK = re.compile(r"$|[\s)\]}^_,;]|\((?:aq|[slg])\)")
_CLOSE = frozenset(")]}")


def chemistry(text: str) -> str:
    r"""What `\ce{text}` shows, in LaTeX that KaTeX knows."""
    text = text.strip()
    shown: list[str] = []
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup or ""
        if kind in ("over", "under"):
            kind = "arrow"
        shown.append(_KINDS[kind](token))
    return "".join(shown)


def _follows_atom(token: re.Match[str]) -> bool:
    """Whether a letter or a closing bracket stands directly before."""
    before = token.string[: token.start()][-1:]
    return before.isalpha() or before in _CLOSE


def _arrow(token: re.Match[str]) -> str:
    arrow = _ARROWS[token["arrow"]]
    over, under = ((token[name] or "[]")[1:-1] for name in ("over", "under"))
    if not (over or under) or arrow not in _NAMED_ARROWS:
        return f"{arrow} "
    below = f"[{chemistry(under)}]" if under else ""
    return f"{_NAMED_ARROWS[arrow]}{below}{{{chemistry(over)}}}"


def _raised(token: re.Match[str]) -> str:
    mark, inside = token[0][0], token[0][1:].strip("{}")
    base = "" if _follows_atom(token) or token.string[: token.start()][-1:].isdigit() else "{}"
    return f"{base}{mark}{{{inside}}}"


def _count(token: re.Match[str]) -> str:
    if _follows_atom(token):
        return f"_{{{token[0]}}}"
    return token[0]


def _part(token: re.Match[str]) -> str:
    over, under = token[0].split("/")
    return rf"\frac{{{over}}}{{{under}}}"


def _sign(token: re.Match[str]) -> str:
    """A charge directly after an atom and at the end of its chunk, else an operator or a bond."""
    before = token.string[: token.start()][-1:]
    is_end = _ENDS_CHUNK.match(token.string, token.end())
    if is_end and (_follows_atom(token) or before.isdigit()):
        return f"^{{{token[0]}}}"
    return token[0]


def _math(token: re.Match[str]) -> str:
    return token[0].strip("$") if token[0].startswith("$") else token[0]


_KINDS: dict[str, Callable[[re.Match[str]], str]] = {
    "arrow": _arrow,
    "gas": lambda _: r"\uparrow ",
    "solid": lambda _: r"\downarrow ",
    "raised": _raised,
    "math": _math,
    "part": _part,
    "count": _count,
    "letters": lambda token: rf"\mathrm{{{token[0]}}}",
    "dot": lambda _: r"\cdot ",
    "sign": _sign,
    "bond": lambda token: r"\equiv " if token[0] == "#" else "=",
    "space": lambda _: " ",
    "other": lambda token: token[0],
}
