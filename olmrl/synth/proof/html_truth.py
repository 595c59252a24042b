"""An HTML page as truth: its markdown with front matter, and its running headers and footers.

Reads pages as the public pipeline reads its own: headers, footers, line numbers and
watermarks are not content, tables stay HTML, headings become `#`, links are unwrapped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree
from lxml.html import HtmlElement, document_fromstring

from olmrl.markup import front_matter

_FURNITURE_TAGS = {"header", "footer"}
_FURNITURE_CLASSES = {"page-header", "page-footer"}
_DROPPED_CLASSES = {"line-number", "watermark"}
_DROPPED_TAGS = {"script", "style", "head", "template", "noscript"}
_LEAVES = {"span", "div", "p", "h3", "h4", "h5", "h6", "td", "li"}
_BLOCKS = {
    *("p", "div", "section", "article", "main", "body", "figure", "figcaption", "blockquote"),
    *("aside", "nav", "address", "dl", "dt", "dd", "header", "footer"),
}
_CELL_MARKS = {"sub", "sup", "b", "i", "strong", "em"}
_IMAGE_CHARS = 500
"""Characters that one image counts for in the share of tables and figures on a page."""


@dataclass(frozen=True)
class HtmlPage:
    """What an HTML page says."""

    markdown: str
    """Front matter and body."""
    furniture: tuple[str, ...]
    """Texts of its running headers and footers."""


def read_html(source: str) -> HtmlPage:
    """Convert one page.

    Raises:
        ValueError: it cannot be parsed.
    """
    root = parse_page(source)
    furniture = tuple(dict.fromkeys(_furniture(root)))
    _drop(root)
    body = _tidy("".join(_convert(root)))
    tables = sum(len(t.text_content()) for t in root.iter("table"))
    images = sum(_is_image(e) for e in root.iter())
    content = len(root.text_content().strip()) + images * _IMAGE_CHARS
    response = front_matter.PageResponse(
        primary_language=(root.get("lang") or "en").split("-")[0].lower(),
        is_rotation_valid=True,
        rotation_correction=0,
        is_table=content > 0 and tables > content / 2,
        is_diagram=content > 0 and images * _IMAGE_CHARS > content / 2,
        natural_text=body or None,
    )
    return HtmlPage(front_matter.format(response), furniture)


_TITLES = ("h1", "h2")
"""A title in a page's header is what the page says, as the public code has it."""


def _classes(element: HtmlElement) -> set[str]:
    return set((element.get("class") or "").split())


def _is_furniture(element: HtmlElement) -> bool:
    return element.tag in _FURNITURE_TAGS or bool(_classes(element) & _FURNITURE_CLASSES)


def _is_image(element: HtmlElement) -> bool:
    return element.tag in ("img", "svg") or (element.tag == "div" and "image" in _classes(element))


def _is_footnote(element: HtmlElement) -> bool:
    return any("footnote" in name for name in _classes(element))


def _furniture(root: HtmlElement) -> Iterator[str]:
    """First line of each text leaf in headers and footers, and page numbers."""
    for element in root.iter():
        if not isinstance(element.tag, str):
            continue
        if "page-number" in _classes(element):
            yield element.text_content().strip()
        elif _is_furniture(element):
            leaves = [e for e in element.iter() if e.tag in _LEAVES and not _has_leaf(e)]
            for leaf in leaves or [element]:
                around = (leaf, *leaf.iterancestors())
                title = any(e.tag in _TITLES for e in (*around, *leaf.iterdescendants()))
                if not title and not any(_is_footnote(e) for e in around):
                    lines = leaf.text_content().strip().splitlines()
                    if lines:
                        yield " ".join(lines[0].split())


def _has_leaf(element: HtmlElement) -> bool:
    return any(child.tag in _LEAVES for child in element.iterdescendants())


def _drop(root: HtmlElement) -> None:
    for element in list(root.iter()):
        if not isinstance(element.tag, str):
            gone = True
        elif _is_furniture(element):
            gone = not any(_is_footnote(e) for e in element.iter() if isinstance(e.tag, str))
            if not gone:
                _keep_footnotes(element)
        else:
            gone = element.tag in _DROPPED_TAGS or bool(_classes(element) & _DROPPED_CLASSES)
        if gone and element.getparent() is not None:
            element.drop_tree()


def _keep_footnotes(element: HtmlElement) -> None:
    for child in list(element):
        if not any(_is_footnote(e) for e in child.iter() if isinstance(e.tag, str)):
            child.drop_tree()
    element.text = None


def _convert(element: HtmlElement) -> Iterator[str]:
    """Markdown of an element, without its tail."""
    tag = element.tag
    if _is_image(element):
        yield f"\n\n![{_description(element)}]({_image_name(element)})\n\n"
    elif tag == "table":
        yield f"\n\n{_table(element)}\n\n"
    elif tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
        yield f"\n\n{'#' * int(tag[1])} {' '.join(_inside(element).split())}\n\n"
    elif tag == "pre":
        yield _code(element)
    elif tag == "br":
        yield "\n"
    elif tag in ("sub", "sup"):
        yield f"<{tag}>{_inside(element)}</{tag}>"
    elif tag in ("b", "strong", "i", "em"):
        mark = "**" if tag in ("b", "strong") else "*"
        inner = _inside(element)
        yield f"{mark}{inner.strip()}{mark}" if inner.strip() else inner
    elif tag in ("ul", "ol"):
        yield f"\n\n{_list(element)}\n\n"
    elif tag in _BLOCKS or tag == "hr":
        yield f"\n\n{_inside(element)}\n\n"
    else:
        yield _inside(element)


def _code(element: HtmlElement) -> str:
    code = element.text_content().strip("\n")
    return f"\n\n```\n{code}\n```\n\n" if code.strip() else ""


def _inside(element: HtmlElement) -> str:
    parts = [_spaces(element.text)]
    for child in element:
        if isinstance(child.tag, str):
            parts += _convert(child)
        parts.append(_spaces(child.tail))
    return "".join(parts)


def _spaces(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "")


def _list(element: HtmlElement) -> str:
    items = []
    for number, item in enumerate(element.iterchildren("li"), start=1):
        mark = f"{number}." if element.tag == "ol" else "-"
        items.append(f"{mark} {_tidy(_inside(item))}")
    return "\n".join(items)


def _table(table: HtmlElement) -> str:
    """The table reduced to its cells, spans and the marks inside cells."""
    rows = []
    for row in table.iter("tr"):
        cells = []
        for cell in row.iterchildren("td", "th"):
            spans = "".join(
                f' {name}="{cell.get(name)}"'
                for name in ("colspan", "rowspan")
                if (cell.get(name) or "").isdigit() and cell.get(name) != "1"
            )
            cells.append(f"<{cell.tag}{spans}>{_cell(cell).strip()}</{cell.tag}>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join(["<table>", *rows, "</table>"])


def _cell(element: HtmlElement) -> str:
    parts = [html.escape(_spaces(element.text), quote=False)]
    for child in element:
        if isinstance(child.tag, str):
            inner = " " if child.tag == "br" else _cell(child)
            kept = child.tag in _CELL_MARKS
            parts.append(f"<{child.tag}>{inner}</{child.tag}>" if kept else inner)
        parts.append(html.escape(_spaces(child.tail), quote=False))
    return "".join(parts)


def _description(element: HtmlElement) -> str:
    text = element.get("data-description") or element.get("alt") or "image"
    return " ".join(text.replace("[", "(").replace("]", ")").split())


def _image_name(element: HtmlElement) -> str:
    box = [element.get(f"data-{side}") or "" for side in ("x", "y", "width", "height")]
    return f"page_{'_'.join(box)}.png" if all(side.isdigit() for side in box) else "page.png"


def _tidy(markdown: str) -> str:
    # lines of code keep their indentation
    outside = re.split(r"(^```$.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    lines = [
        line.strip() if place % 2 == 0 else line.rstrip()
        for place, piece in enumerate(outside)
        for line in piece.split("\n")
    ]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    return re.sub(r"^(?:---\s*)+|(?:\s*---)+$", "", text).strip()


def parse_page(source: str) -> HtmlElement:
    """The tree of a whole page.

    Raises:
        ValueError: it cannot be parsed.
    """
    try:
        return document_fromstring(source)
    except (etree.ParserError, etree.XMLSyntaxError) as error:
        raise ValueError(f"not an HTML page ({error})") from error
