r"""What a LaTeX formula looks like, and whether one formula shows another.

The rule is in docs/formats.md#formulas.

    render(r"\frac{a}{b}").mathml
    equivalent(r"\frac{a}{b}", r"x = \frac a b")     # True: the reference is a part of it

Formulas are rendered by an embedded KaTeX (`renderer="katex"`) or, as a cross-check, in a real
browser (`renderer="chromium"`, needs the package playwright). Results, including errors, are cached
in the process and on disk. `extract_formulas` finds the formulas of a text.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, cast

from olmrl.markup.chromium import render_in_chromium
from olmrl.markup.equation_cache import EquationCache, default_folder
from olmrl.markup.formulas import extract_formulas
from olmrl.markup.katex_engine import Fonts, engine_version, render_formula
from olmrl.markup.latex import readable
from olmrl.markup.printed import cannot_show
from olmrl.markup.symbol_match import Arrangement, Symbol, contains
from olmrl.markup.text import WorkLimitError

__all__ = ["Fonts", "Rendered", "Renderer", "Symbol", "as_set", "equivalent"]
__all__ += ["extract_formulas", "look_alike", "render"]

Renderer = Literal["katex", "chromium"]
RENDERER_VARIABLE = "OLMRL_EQUATIONS_RENDERER"

_SPACES = re.compile("[ \t\r\n]+")
_INVISIBLE = re.compile("[\\s\u200a-\u200d\u2060\ufeff]+")


@dataclass(frozen=True, eq=False)
class Rendered:
    """A rendered formula, or the reason why it cannot be rendered."""

    latex: str
    mathml: str = ""
    """The content of MathML's `<semantics>`, without white space."""
    symbols: tuple[Symbol, ...] = ()
    """Every visible run of characters and its box, in reading order."""
    error: str = ""
    """Why it could not be rendered; empty if it could."""

    @cached_property
    def arrangement(self) -> Arrangement:
        """The symbols, ready to be compared."""
        return Arrangement(self.symbols)


def render(latex: str, *, fonts: Fonts = "katex", renderer: Renderer = "katex") -> Rendered:
    """Renders a formula in display style; for a bad formula the result has an `error`.

    Args:
        latex: The formula without delimiters.
        fonts: Whose widths place the symbols; `serif` is what the public benchmark measures.
        renderer: `katex`, or `chromium` for a browser, which measures in the fonts it has.

    Raises:
        ValueError: The renderer is unknown, or is chromium and playwright or a browser is missing.
    """
    if renderer not in ("katex", "chromium"):
        raise ValueError(f"markup.equations.renderer is {renderer!r}, must be katex or chromium")
    return _render(latex, fonts, renderer)


def configured_renderer() -> Renderer:
    """The renderer for comparisons: environment variable OLMRL_EQUATIONS_RENDERER, or KaTeX.

    It is a variable because comparisons run in worker processes; runs set it from their
    configuration (`markup.equations.renderer`).
    """
    return cast("Renderer", os.environ.get(RENDERER_VARIABLE, "katex"))


def equivalent(reference: str, hypothesis: str, *, compat: bool = False) -> bool:
    """Whether a formula shows a reference formula, as a whole or as a part.

    Either the reference's MathML is part of the hypothesis's, or its symbols occur in the
    hypothesis in the same arrangement. Both are read by the rules of `olmrl.markup.latex` first.

    Args:
        reference: LaTeX of what should be there.
        hypothesis: LaTeX of what is there.
        compat: Measure in the public benchmark's font, take the LaTeX as it is (otherwise
            `olmrl.markup.latex` reads it first), and let a reference that cannot be rendered match
            any formula, as the benchmark does.

    Raises:
        WorkLimitError: The comparison needs too many steps.
    """
    if reference == hypothesis:
        return True
    verdict = _compare(reference, hypothesis, compat)
    if verdict is None:
        raise WorkLimitError("comparing two formulas takes too many steps")
    return verdict


def look_alike(one: str, other: str) -> bool:
    """Whether each of two formulas shows all of the other, by the default rules.

    Raises:
        WorkLimitError: The comparison needs too many steps.
    """
    if one == other:
        return True
    shown = as_set(one), as_set(other)
    if cannot_show(*shown) or cannot_show(*reversed(shown)):
        return False
    return equivalent(one, other) and equivalent(other, one)


@lru_cache(maxsize=65_536)
def as_set(latex: str) -> str:
    """A formula in words that KaTeX knows, with one space where it takes any number."""
    shown = readable(latex)
    return shown if "%" in shown or "\\verb" in shown else _SPACES.sub(" ", shown)


@lru_cache(maxsize=65_536)
def _compare(reference: str, hypothesis: str, compat: bool) -> bool | None:
    renderer = configured_renderer()
    # a browser measures in the machine's serif font: it never loads KaTeX's own fonts
    fonts: Fonts = "serif" if compat or renderer == "chromium" else "katex"
    if not compat:
        reference, hypothesis = as_set(reference), as_set(hypothesis)
        if cannot_show(hypothesis, reference):
            return False
    wanted = render(reference, fonts=fonts, renderer=renderer)
    if wanted.error:
        return compat
    shown = render(hypothesis, fonts=fonts, renderer=renderer)
    if not compat and (shown.error or not wanted.symbols):
        return not shown.error and wanted.mathml in shown.mathml
    if wanted.mathml in shown.mathml:
        return True
    try:
        return contains(shown.arrangement, wanted.arrangement)
    except WorkLimitError:
        return None


@lru_cache(maxsize=16_384)
def _render(latex: str, fonts: Fonts, renderer: Renderer) -> Rendered:
    label = "\0".join((engine_version(), renderer, fonts, latex))
    key = hashlib.sha256(label.encode("utf-8", "surrogatepass")).digest()
    cache = _cache()
    stored = cache.get(key)
    if stored is not None:
        return _rendered(latex, json.loads(stored))
    run = render_formula if renderer == "katex" else render_in_chromium
    answer = run(latex, fonts)
    answer["mathml"] = _INVISIBLE.sub("", answer.get("mathml", ""))
    cache.put(key, json.dumps(answer))
    return _rendered(latex, answer)


def _rendered(latex: str, answer: dict[str, Any]) -> Rendered:
    symbols = tuple(Symbol(*symbol) for symbol in answer.get("symbols", ()))
    return Rendered(latex, answer["mathml"], symbols, answer.get("error", ""))


@lru_cache(maxsize=1)
def _cache() -> EquationCache:
    return EquationCache(default_folder())
