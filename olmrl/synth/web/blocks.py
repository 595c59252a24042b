"""The blocks of an HTML page as plain, safe HTML: text, lists, tables, formulas, boxed images.

Everything that could run, fetch or hide is left behind: scripts, styles, frames, forms, images,
attributes, and whatever the author marked as not shown. Formulas are kept as LaTeX in
`<span class="tex">` (`<div class="tex">` on lines of their own).
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator

from lxml.html import HtmlElement, tostring

from olmrl.synth.web.document import Document
from olmrl.synth.web.formulas import formula_of, text_with_formulas

MAX_DEPTH = 200
"""Deepest nesting that is followed."""

_DROPPED = {
    *("script", "style", "iframe", "frame", "frameset", "object", "embed", "applet", "noscript"),
    *("template", "svg", "canvas", "video", "audio", "source", "track", "map", "area", "link"),
    *("meta", "base", "head", "title", "nav", "dialog", "button", "input", "select", "textarea"),
    *("option", "datalist", "progress", "meter", "portal", "marquee"),
}
_SITE_FURNITURE = {"header", "footer", "aside"}
_CONTAINERS = {
    *("html", "body", "main", "article", "section", "div", "center", "form", "fieldset", "figure"),
    *("details", "hgroup", "address", "dl", "header", "footer"),
}
_BLOCKS = {
    *("p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "pre", "blockquote"),
    *("dt", "dd", "figcaption", "summary", "hr", "menu", "dir", "li"),
}
_TEXT_BLOCKS = {
    *("p", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "dt", "dd", "figcaption", "summary"),
    "li",
}
"""Blocks of text, unless they hold other blocks."""
_INLINE = {"b", "strong", "i", "em", "sub", "sup", "code", "br"}
_KEPT = {
    *_INLINE,
    *_BLOCKS,
    *("li", "tr", "td", "th", "thead", "tbody", "tfoot", "caption", "div", "span"),
}
_RENAMED = {"dt": "p", "dd": "p", "figcaption": "p", "summary": "p", "menu": "ul", "dir": "ul"}
_SPANS = ("colspan", "rowspan")
_HIDDEN_STYLE = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)"
    r"|(?:opacity|font-size)\s*:\s*0*(?:\.0*)?(?:[a-z]+|%)?\s*(?:;|!|$)",
    re.IGNORECASE,
)
_HIDDEN_CLASSES = {
    "sr-only",
    "visually-hidden",
    "screen-reader-text",
    "headerlink",
    "noprint",
    "footnote-back",
}


def is_hidden(element: HtmlElement) -> bool:
    """Whether an element says of itself that it is not shown."""
    classes = set((element.get("class") or "").split())
    return (
        element.get("hidden") is not None
        or (element.get("aria-hidden") or "").lower() == "true"
        or bool(_HIDDEN_STYLE.search(element.get("style") or ""))
        or bool(classes & _HIDDEN_CLASSES)
    )


def _is_dropped(element: HtmlElement) -> bool:
    if not isinstance(element.tag, str) or element.tag in _DROPPED or is_hidden(element):
        return True
    role = element.get("role") or ""
    return role in ("navigation", "search", "banner", "contentinfo", "complementary")


def blocks_of(element: HtmlElement, document: Document, depth: int) -> Iterator[str]:
    """Blocks of a container; text and inline elements between blocks become paragraphs."""
    if depth > MAX_DEPTH:
        raise ValueError(f"elements are nested more than {MAX_DEPTH} deep")
    loose = [text_with_formulas(element.text)]
    for child in element:
        inline = False
        if isinstance(child.tag, str) and not _is_dropped(child):
            formula = formula_of(child)
            inline = formula is None or not formula.startswith("<div")
            inline = inline and not any(_is_block(part) for part in child.iter())
            if inline:
                loose.append(_inline(child, document, depth + 1))
            else:
                yield from _paragraph(loose)
                loose = []
                if formula is not None:
                    yield formula
                elif child.tag in _SITE_FURNITURE and depth < 2:
                    document.leave(f"<{child.tag}> of the site")
                else:
                    yield from _block(child, document, depth + 1)
        loose.append(text_with_formulas(child.tail))
    yield from _paragraph(loose)


def _is_block(element: HtmlElement) -> bool:
    return element.tag in _CONTAINERS | _BLOCKS | _SITE_FURNITURE


def _block(element: HtmlElement, document: Document, depth: int) -> Iterator[str]:
    tag = element.tag
    if tag == "hr":
        return
    if tag == "pre":
        inner = _pre(element)
    elif tag in ("ul", "ol", "menu", "dir", "table") or (
        tag in _TEXT_BLOCKS and not any(_is_block(part) for part in element.iterdescendants())
    ):
        inner = _inside(element, document, depth).strip()
    else:
        yield from blocks_of(element, document, depth)
        return
    name = "p" if tag == "li" else _RENAMED.get(tag, tag)
    if name not in ("ul", "ol", "table", "pre"):
        yield from _text_blocks(name, inner)
    elif _says_something(inner):
        yield f"<{name}>{inner}</{name}>"


_FORMULA_TAG = '<div class="tex">'


def _around_formulas(inner: str) -> list[str]:
    """What a block of text holds, cut where formulas stand on lines of their own.

    HTML has no such formula inside a paragraph; where a mark of the text reaches over one (bold,
    say), it is set within the line.
    """
    pieces = [part.strip() for part in re.split(rf"({_FORMULA_TAG}.*?</div>)", inner, flags=re.S)]
    if all(map(_closes_what_it_opens, pieces)):
        return pieces
    return [
        "".join(
            f'<span class="tex">{part[len(_FORMULA_TAG) : -len("</div>")]}</span>'
            if part.startswith(_FORMULA_TAG)
            else part
            for part in re.split(rf"({_FORMULA_TAG}.*?</div>)", inner, flags=re.S)
        )
    ]


def _closes_what_it_opens(piece: str) -> bool:
    marks = re.findall(r"<(/?)([a-z]+\d?)", piece.replace("<br>", ""))
    opened, closed = (
        Counter(tag for end, tag in marks if bool(end) == is_end) for is_end in (False, True)
    )
    return opened == closed


def _says_something(inner: str) -> bool:
    return 'class="image"' in inner or bool(re.sub(r"<[^>]*>|&nbsp;|\s", "", inner))


def _paragraph(pieces: list[str]) -> Iterator[str]:
    """Loose inline pieces as a paragraph, if they say anything."""
    text = "".join(pieces).strip()
    while text.startswith("<br>"):
        text = text[4:].lstrip()
    yield from _text_blocks("p", text)


def _text_blocks(name: str, inner: str) -> Iterator[str]:
    for piece in _around_formulas(inner):
        if piece.startswith(_FORMULA_TAG):
            yield piece
        elif _says_something(piece):
            yield f"<{name}>{piece}</{name}>"


def _inside(element: HtmlElement, document: Document, depth: int) -> str:
    if depth > MAX_DEPTH:
        raise ValueError(f"elements are nested more than {MAX_DEPTH} deep")
    parts = [text_with_formulas(element.text)]
    for child in element:
        if isinstance(child.tag, str) and not _is_dropped(child):
            parts.append(_inline(child, document, depth + 1))
        elif isinstance(child.tag, str) and child.tag in ("svg", "canvas", "iframe"):
            document.leave(f"<{child.tag}>")
        parts.append(text_with_formulas(child.tail))
    return "".join(parts)


def _inline(element: HtmlElement, document: Document, depth: int) -> str:
    """HTML of an element inside a block, reduced to tags that a page needs."""
    formula = formula_of(element)
    if formula is not None:
        return formula
    tag = element.tag
    if tag == "math":
        document.leave("<math> without LaTeX")
        return "\ufffc"
    if tag in ("img", "picture"):
        return _image(element, document)
    if tag == "br":
        return "<br>"
    inner = _inside(element, document, depth)
    if tag not in _KEPT:
        return inner
    spans = "".join(
        f' {name}="{int(element.get(name))}"'
        for name in _SPANS
        if (element.get(name) or "").isdigit() and 1 < int(element.get(name)) <= 100
    )
    name = _RENAMED.get(tag, tag)
    return f"<{name}{spans}>{inner}</{name}>" if name not in ("div", "span") else inner


def _image(element: HtmlElement, document: Document) -> str:
    """A box with the author's description in place of an image; none without a description."""
    inner = element.find(".//img") if element.tag == "picture" else element
    words = " ".join(((inner.get("alt") or "") if inner is not None else "").split())
    if len(words) < 8:
        document.leave("image without a description")
        return ""
    return f'<span class="image" data-description="{html.escape(words)}"></span>'


def _pre(element: HtmlElement) -> str:
    return html.escape(element.text_content().strip("\n").expandtabs(4), quote=False)


def serialise(element: HtmlElement) -> str:
    """HTML of an element without its tail."""
    return str(tostring(element, encoding="unicode", with_tail=False))
