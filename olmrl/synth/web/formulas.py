"""Formulas of HTML pages as LaTeX, in `span.tex`, or in `div.tex` on lines of their own."""

from __future__ import annotations

import html
import re

from lxml.html import HtmlElement

from olmrl.markup.enclosed import Enclosed, Pair

_TEX_TYPES = {"application/x-tex", "latex", "tex"}
_WIDE = r"[\u2e80-\u303f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uff60]"
_BROKEN_RUN = re.compile(rf"(?<={_WIDE})[ \t]*\n\s*(?={_WIDE})")
"""A line break of the source inside Chinese or Japanese, which is no space (CSS Text 4.1.3)."""
_LABEL = re.compile(r"\\label\s*\{[^{}]*\}")
_DELIMITED = Enclosed(
    Pair(r"\\\(", "(.+?)", r"\\\)"),
    Pair(r"\\\[", "(.+?)", r"\\\]"),
    Pair(r"\$\$", "(.+?)", r"\$\$"),
    flags=re.DOTALL,
)


def formula_of(element: HtmlElement) -> str | None:
    """LaTeX of MathML with an annotation, and of the spans that pandoc and KaTeX write."""
    classes = set((element.get("class") or "").split())
    display = element.get("display") == "block" or bool(classes & {"display", "katex-display"})
    tex = None
    if element.tag == "math" or classes & {"katex", "katex-display", "MathJax_Display"}:
        for note in element.iter("annotation"):
            if (note.get("encoding") or "").lower() in _TEX_TYPES:
                tex = note.text_content()
        if tex is None and element.tag == "math":
            tex = element.get("alttext")
    elif "math" in classes and element.tag in ("span", "div"):
        tex = _without_delimiters(element.text_content())
    if tex is None or not tex.strip():
        return None
    return formula(tex.strip(), display)


def formula(tex: str, display: bool) -> str:
    """A formula as this module writes it, without its name, which nobody sees."""
    tex = _LABEL.sub("", tex).strip()
    tag = "div" if display else "span"
    # in markdown `<b` begins a tag, which would swallow what follows, tables too
    tex = re.sub(r"<(?=[A-Za-z/!?])", "< ", tex)
    return f'<{tag} class="tex">{html.escape(tex, quote=False)}</{tag}>'


def _without_delimiters(text: str) -> str:
    text = text.strip()
    found = next(_DELIMITED.finditer(text), None)
    return found[1] if found and found[0] == text else text.strip("$ \n")


def text_with_formulas(text: str | None) -> str:
    """Escaped text, with formulas between delimiters as spans."""
    joined = _BROKEN_RUN.sub("", text or "")
    escaped = html.escape(re.sub(r"\s+", " ", joined), quote=False)

    def replace(match: re.Match[str]) -> str:
        tex = html.unescape(match[1]).strip()
        return formula(tex, display=False)

    return _DELIMITED.sub(replace, escaped)
