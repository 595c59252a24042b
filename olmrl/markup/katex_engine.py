"""KaTeX in an embedded JavaScript engine: LaTeX to MathML and placed symbols, without a browser.

The bundled KaTeX (katex/katex.min.js, version 0.16.21) parses; katex/layout.js places its symbols.
Each thread has its own engine, with limits on time, memory and stack, so that no formula can stall
or kill the process.
"""

import hashlib
import json
import threading
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any, Literal

import quickjs

Fonts = Literal["katex", "serif"]
"""Which widths place the symbols: those of KaTeX's own fonts, or of the Times-like font in which
the public benchmark happens to measure."""

MAX_FORMULA_CHARS = 10_000
"""Longest formula to render."""
MAX_SYMBOLS = 5_000
"""Maximum placed runs of characters in one formula."""
MAX_SECONDS = 3.0
"""CPU seconds for one formula; a typical one takes a millisecond."""
MAX_MEMORY_BYTES = 256 << 20
MAX_STACK_BYTES = 4 << 20

_SCRIPTS = ("katex.min.js", "fonts.js", "layout.js")
_WIDTHS = ("katex_widths.json", "serif_widths.json")

_thread = threading.local()


def render_formula(latex: str, fonts: Fonts) -> dict[str, Any]:
    """Renders one formula in display style.

    Returns:
        Either `mathml` and `symbols` (text, x, y, width, height; px, y downwards), or `error`.
    """
    if len(latex) > MAX_FORMULA_CHARS:
        return {"error": f"the formula is longer than {MAX_FORMULA_CHARS} characters"}
    if getattr(_thread, "render", None) is None:
        _thread.render = _start_engine()
    latex = latex.encode("utf-8", "replace").decode()  # lone surrogates cannot be printed later
    try:
        answer = _thread.render(json.dumps(latex), fonts, MAX_SYMBOLS)
    except quickjs.JSException as error:  # a limit was reached: the engine's state is unknown
        _thread.render = None
        return {"error": f"KaTeX gave up: {str(error).splitlines()[0]}"}
    rendered: dict[str, Any] = json.loads(answer)
    return rendered


@cache
def engine_version() -> str:
    """A digest of everything that determines how a formula is rendered."""
    digest = hashlib.sha256()
    for name in (*_SCRIPTS, *_WIDTHS):
        digest.update(katex_asset(name).encode())
    return digest.hexdigest()[:16]


@cache
def katex_asset(name: str) -> str:
    """The text of a file in the folder katex/."""
    return resources.files("olmrl.markup").joinpath("katex", name).read_text("utf-8")


def _start_engine() -> Callable[..., str]:
    context = quickjs.Context()
    context.set_memory_limit(MAX_MEMORY_BYTES)
    context.set_max_stack_size(MAX_STACK_BYTES)
    context.eval("var self = globalThis;")  # where KaTeX's module wrapper puts itself
    for name in _SCRIPTS:
        context.eval(katex_asset(name))
    context.get("loadWidths")(*(katex_asset(name) for name in _WIDTHS))
    context.set_time_limit(MAX_SECONDS)
    render: Callable[..., str] = context.get("renderFormula")
    return render
