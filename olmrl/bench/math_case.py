"""The formula test (docs/formats.md#formulas)."""

from dataclasses import dataclass

from olmrl.bench.case import Case, Verdict
from olmrl.bench.document import ParsedPage
from olmrl.markup.equations import as_set, equivalent, render
from olmrl.markup.text import WorkLimitError


@dataclass(frozen=True, kw_only=True)
class MathCase(Case):
    """Passes if some formula of the page shows the reference formula."""

    type = "math"

    math: str
    """LaTeX of the reference, without delimiters."""
    ignore_dollar_delimited: bool = False
    r"""Look at `\\( \\)` and `\\[ \\]` only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.math.strip():
            raise self.error("math", f"is {self.math!r}, must not be blank")
        if not self.compat:
            shown = as_set(self.math)
            if not shown.strip():
                raise self.error("math", f"is {self.math[:80]!r}, shows nothing of a formula")
            problem = render(shown).error
            if problem:
                raise self.error("math", f"is {self.math[:80]!r}, cannot be rendered: {problem}")

    def _judge(self, page: ParsedPage) -> Verdict:
        formulas = page.formulas(dollars=not self.ignore_dollar_delimited)
        if not formulas:
            return Verdict(False, "no formula on the page")
        if self.math in formulas:
            return Verdict(True, "")
        undecided = ""
        for formula in formulas:
            try:
                if equivalent(self.math, formula, compat=self.compat):
                    return Verdict(True, "")
            except WorkLimitError as error:
                undecided = f" ({error})"
        return Verdict(False, f"no formula shows {self.math[:80]!r}{undecided}")
