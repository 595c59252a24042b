"""A user's HTML as blocks of plain, safe HTML: text, lists, tables, formulas, boxed images.

Everything that could run, fetch or hide is left behind: scripts, styles, frames, forms, images,
attributes, and whatever the author marked as not shown. Formulas are kept as LaTeX in
`<span class="tex">` (`<div class="tex">` on lines of their own).
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from lxml import etree
from lxml.html import HtmlElement, HTMLParser, document_fromstring, fragment_fromstring, tostring

from olmrl.markup.enclosed import Enclosed, Pair
from olmrl.synth.web.language import RIGHT_TO_LEFT, language_of

MAX_BYTES = 8_000_000
"""Largest document that is read."""
MAX_BLOCKS = 3_000
"""Blocks of one document that are laid out; what follows is counted as left."""
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
_TEX_TYPES = {"application/x-tex", "latex", "tex"}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_ENDS = re.compile(rb"</(?:body|html)\s*>", re.IGNORECASE)
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


@dataclass
class Document:
    """What is left of an HTML file."""

    title: str
    language: str
    """Two letters."""
    right_to_left: bool
    blocks: list[str] = field(default_factory=list)
    """HTML of each block, in reading order."""
    left: dict[str, int] = field(default_factory=dict)
    """How much was left behind, by reason."""

    def leave(self, reason: str) -> None:
        """Count something that no page will show."""
        self.left[reason] = self.left.get(reason, 0) + 1


def read_document(data: bytes, language: str = "en") -> Document:
    """Read an HTML file.

    Args:
        data: The file.
        language: Two letters, of a document that names none and whose letters tell none.

    Raises:
        ValueError: too large, not HTML, nested too deep, or without any text.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES / 1e6:g} MB")
    if b"\0" in data[:4096] and data[:2] not in _UTF16:
        raise ValueError("binary data, not an HTML page")
    encoding = None if _names_encoding(data) else _guess_encoding(data)
    data = _ENDS.sub(b"", data)  # to a browser, what stands behind them belongs to the page too
    try:
        root = document_fromstring(data, parser=HTMLParser(encoding=encoding, huge_tree=False))
    except (etree.ParserError, etree.XMLSyntaxError, ValueError, AssertionError) as error:
        raise ValueError(f"not an HTML page ({error})") from error
    title = " ".join((root.findtext(".//title") or "").split())
    start = _content(root)
    spoken = language_of(_named(root, "lang"), start.text_content(), language)
    direction = _named(root, "dir") or ("rtl" if spoken in RIGHT_TO_LEFT else "ltr")
    document = Document(title, spoken, direction.lower() == "rtl")
    for block in _blocks(start, document, 0):
        if len(document.blocks) == MAX_BLOCKS:
            document.leave(f"beyond {MAX_BLOCKS} blocks")
        else:
            document.blocks.append(block)
    if not document.blocks:
        raise ValueError("no text that a page could show")
    if not document.title:
        headings = [block for block in document.blocks if re.match(r"<h[1-3]>", block)]
        document.title = " ".join(text_of(headings[0]).split()) if headings else ""
    return document


def _named(root: HtmlElement, attribute: str) -> str | None:
    """An attribute of the document as a whole."""
    body = root.find("body")
    xml = root.get(f"{{http://www.w3.org/XML/1998/namespace}}{attribute}")
    return root.get(attribute) or xml or (body.get(attribute) if body is not None else None)


def text_of(block: str) -> str:
    """Text of a block."""
    return str(fragment_fromstring(block, create_parent="div").text_content())


def _names_encoding(data: bytes) -> bool:
    return data[:3] == b"\xef\xbb\xbf" or data[:2] in _UTF16 or b"charset" in data[:2048].lower()


def _guess_encoding(data: bytes) -> str:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "windows-1252"  # what browsers take for pages that name none
    return "utf-8"


def _content(root: HtmlElement) -> HtmlElement:
    """The part of a page that is about its subject, as far as the page says so."""
    for path in (".//main", './/*[@role="main"]'):
        found = root.findall(path)
        if len(found) == 1:
            return found[0]
    articles = root.findall(".//article")
    if len(articles) == 1:
        return articles[0]
    body = root.find("body")
    return root if body is None else body


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


def _blocks(element: HtmlElement, document: Document, depth: int) -> Iterator[str]:
    """Blocks of a container; text and inline elements between blocks become paragraphs."""
    if depth > MAX_DEPTH:
        raise ValueError(f"elements are nested more than {MAX_DEPTH} deep")
    loose = [_text(element.text)]
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
        loose.append(_text(child.tail))
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
        yield from _blocks(element, document, depth)
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
    parts = [_text(element.text)]
    for child in element:
        if isinstance(child.tag, str) and not _is_dropped(child):
            parts.append(_inline(child, document, depth + 1))
        elif isinstance(child.tag, str) and child.tag in ("svg", "canvas", "iframe"):
            document.leave(f"<{child.tag}>")
        parts.append(_text(child.tail))
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


def _text(text: str | None) -> str:
    """Escaped text, with formulas between delimiters as spans."""
    joined = _BROKEN_RUN.sub("", text or "")
    escaped = html.escape(re.sub(r"\s+", " ", joined), quote=False)

    def replace(match: re.Match[str]) -> str:
        tex = html.unescape(match[1]).strip()
        return formula(tex, display=False)

    return _DELIMITED.sub(replace, escaped)


def serialise(element: HtmlElement) -> str:
    """HTML of an element without its tail."""
    return str(tostring(element, encoding="unicode", with_tail=False))
