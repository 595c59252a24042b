"""Steps that leave pages out (docs/formats.md#text-rules)."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import ClassVar

from pydantic.dataclasses import dataclass

from olmrl.data.steps.rewriting import MATH, TABLE, text_of
from olmrl.data.steps.sample import STRICT, Dropped, Kind, Sample, Step, StepContext, dropped
from olmrl.markup import equations

_BARE_SYMBOLS = re.compile(
    "[\u2208\u2209\u2282\u2283\u2286\u2287\u2205\u222a\u2229\u2200\u2203\u00ac"
    "\u2295\u2297\u2299\u2296\u2298\u229a\u229b\u229c\u229d"
    "\u2202\u2207\u2206\u222b\u222c\u222d\u222e\u220f\u2211\u221a\u221b\u221c"
    "\u22a5\u2220\u2221\u22a4\u22a2\u22a3\u2234\u2235\u2236\u2237"
    "\u221d\u2245\u2246\u2247\u224a\u224b]"
)
"""Mathematical characters that belong in formulas."""

_LATEX_OUTSIDE_MATH = (
    *(
        f"\\begin{{{name}}}"
        for name in ("itemize", "enumerate", "figure", "table", "tabular", "equation", "align")
    ),
    *("\\item", "\\includegraphics", "\\caption", "\\label", "\\ref", "\\eqref", "\\textit"),
    *("\\textbb", "\\frac", "\\sum", "\\int", "\\sqrt", "\\prod", "\\lim", "\\binom", "\\mathbb"),
    *("\\mathcal", "\\to", "\\varphi", "\\cdot", "\\langle", "\\rangle", "\\cite"),
)
"""Plain substrings; some hit longer commands too, as in the published data."""

_TABLE_TAG = re.compile(r"<(/?)table\b", re.IGNORECASE)
_VOID_TAGS = frozenset(("br", "col", "hr", "img", "input", "wbr"))
_OPTIONAL_END = frozenset(("td", "th", "tr", "thead", "tbody", "tfoot", "li", "p", "option"))


@dataclass(frozen=True, config=STRICT)
class FilterOutRotatedDocuments(Step):
    """Leaves out pages that are not upright, whose machine-made labels are unreliable."""

    kind: ClassVar[Kind] = "filter"
    needs: ClassVar[tuple[str, ...]] = ("truth",)

    def __call__(self, sample: Sample, context: StepContext) -> Sample | Dropped:
        """Drop rotated pages."""
        truth = sample.truth
        if truth and (not truth.is_rotation_valid or truth.rotation_correction != 0):
            return dropped(sample, self, "rotated page")
        return sample


@dataclass(frozen=True, config=STRICT)
class DatasetTextRuleFilter(Step):
    """Leaves out pages whose text breaks the conventions of the training data."""

    kind: ClassVar[Kind] = "filter"
    needs: ClassVar[tuple[str, ...]] = ("truth",)

    def __call__(self, sample: Sample, context: StepContext) -> Sample | Dropped:
        """Drop a page by the first rule its text breaks."""
        text = text_of(sample)
        if text is None:
            return sample
        for rule, breaks in _RULES:
            if breaks(text):
                return dropped(sample, self, rule)
        return sample


def has_markdown_table(text: str) -> bool:
    """Whether a row between pipes stands next to a markdown table's rule."""
    lines = [line.strip() for line in text.split("\n")]
    for at, line in enumerate(lines):
        if line.startswith("|") and line.endswith("|") and line.count("|") >= 3:
            around = lines[max(at - 1, 0) : at] + lines[at + 1 : at + 2]
            if any(other.startswith("|") and "-" in other for other in around):
                return True
    return False


def has_broken_html_table(text: str) -> bool:
    """Whether table tags do not balance, or a table's inner tags do not."""
    tags = [match[1] for match in _TABLE_TAG.finditer(text)]
    if tags.count("") != tags.count("/"):
        return True
    return any(_Balance.is_broken(match[0]) for match in TABLE.finditer(text))


class _Balance(HTMLParser):
    """Tracks open tags; end tags that HTML makes optional are implied."""

    def __init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self._broken = False

    @classmethod
    def is_broken(cls, markup: str) -> bool:
        """Whether a start tag stays open, or an end tag has no start."""
        parser = cls()
        parser.feed(markup)
        parser.close()
        return parser._broken or any(tag not in _OPTIONAL_END for tag in parser._open)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in _VOID_TAGS:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID_TAGS:
            return
        while self._open and self._open[-1] != tag and self._open[-1] in _OPTIONAL_END:
            self._open.pop()
        if self._open and self._open[-1] == tag:
            self._open.pop()
        else:
            self._broken = True


def has_unrenderable_formula(text: str) -> bool:
    """Whether a delimited formula cannot be typeset."""
    return any(equations.render(match[0][2:-2].strip()).error for match in MATH.finditer(text))


def _has_bare_symbol(text: str) -> bool:
    return _BARE_SYMBOLS.search(TABLE.sub("", text)) is not None


def _has_latex_outside_math(text: str) -> bool:
    outside = MATH.sub("", text)
    return any(command in outside for command in _LATEX_OUTSIDE_MATH)


def _has_latex_table(text: str) -> bool:
    return "\\begin{table}" in text or "\\begin{tabular}" in text


_RULES: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("markdown table", has_markdown_table),
    ("unbalanced HTML table", has_broken_html_table),
    ("formula that cannot be rendered", has_unrenderable_formula),
    ("mathematical symbol outside a table", _has_bare_symbol),
    ("LaTeX command outside a formula", _has_latex_outside_math),
    ("LaTeX table", _has_latex_table),
)
