"""Renders formulas in a real browser: a slow, optional cross-check of the embedded layout.

Needs the package playwright and a Chromium (`browser`). KaTeX's fonts are not loaded (nor does the
public benchmark load them), so symbols are measured in the machine's serif font.
"""

import atexit
import threading
from typing import Any

from olmrl.markup.browser import Chromium
from olmrl.markup.katex_engine import MAX_FORMULA_CHARS, katex_asset

MAX_MILLISECONDS = 20_000
"""Longest wait for the browser, in milliseconds."""

_MEASURE = """
(latex) => {
  const place = document.getElementById("formula");
  try {
    katex.render(latex, place, { displayMode: true, throwOnError: true });
  } catch (error) {
    return { error: String(error.message) };
  }
  const meaning = [...place.querySelector(".katex-mathml semantics").children];
  const kept = meaning.filter((node) => node.tagName.toLowerCase() !== "annotation");
  const spans = [...place.querySelectorAll(".katex-html span")].filter(
    (span) => span.childElementCount === 0 && /[^\\s\\u200b]/.test(span.textContent));
  return {
    mathml: kept.map((node) => node.outerHTML).join("").replace(/&nbsp;/g, "\\u00a0"),
    symbols: spans.map((span) => {
      const box = span.getBoundingClientRect();
      return [span.textContent.trim(), box.x, box.y, box.width, box.height];
    }),
  };
}
"""

_thread = threading.local()


def render_in_chromium(latex: str, fonts: str) -> dict[str, Any]:
    """Renders one formula; the result has the form of `katex_engine.render_formula`.

    Raises:
        ValueError: playwright or Chromium is missing, or `fonts` is not `serif`.
    """
    if fonts != "serif":
        raise ValueError("the renderer chromium only measures with fonts='serif'")
    if len(latex) > MAX_FORMULA_CHARS:
        return {"error": f"the formula is longer than {MAX_FORMULA_CHARS} characters"}
    if getattr(_thread, "page", None) is None:
        _thread.page = _open_page()
    answer: dict[str, Any] = _thread.page.evaluate(_MEASURE, latex)
    return answer


def _open_page() -> Any:
    chromium = Chromium("markup.equations.renderer=chromium")
    atexit.register(chromium.close)
    page = chromium.new_page(viewport={"width": 800, "height": 400})
    page.set_default_timeout(MAX_MILLISECONDS)
    page.set_content(
        f"<!DOCTYPE html><style>{katex_asset('katex.min.css')}</style>"
        "<body style='font-size: 24px'><div id='formula'></div></body>"
    )
    page.add_script_tag(content=katex_asset("katex.min.js"))
    return page
