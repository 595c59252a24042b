"""A page that a model wrote as HTML, taken apart and put together again from what is harmless.

The model's text is hostile until proven otherwise: it may come from a page that tells the model
what to write. Only known elements, attributes and CSS (`web.safe_css`) are written anew; what would
run, fetch, hide, cover or reorder is left behind and counted.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from lxml import etree
from lxml.html import HtmlElement, HTMLParser, document_fromstring

from olmrl.markup.tables import parse_html_tables
from olmrl.markup.text import WorkLimitError
from olmrl.synth.web.blocks import is_hidden
from olmrl.synth.web.formulas import formula, formula_of
from olmrl.synth.web.pages import displayed, readable
from olmrl.synth.web.safe_css import PAGE_CLASS, own_name, safe_declarations, safe_sheet

MAX_CHARS = 400_000
"""Longest HTML that is read; a full page has some 10,000 characters."""
MAX_ELEMENTS = 6_000
MAX_DEPTH = 100
MAX_FORMULAS = 400
LEAST_CHARACTERS = 20
"""Text that a page must have."""

_KEPT = {
    *("div", "section", "article", "main", "aside", "header", "footer", "figure", "figcaption"),
    *("p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "dl", "dt", "dd", "pre", "hr"),
    *("table", "thead", "tbody", "tfoot", "tr", "td", "th", "blockquote", "address", "span"),
    *("b", "strong", "i", "em", "sub", "sup", "code", "br"),
}
_AS_DIV = {"nav", "form", "fieldset", "center", "details", "summary", "hgroup", "body"}
_UNWRAPPED = {
    *("a", "u", "small", "mark", "s", "strike", "del", "ins", "time", "abbr", "font", "q", "cite"),
    *("dfn", "kbd", "var", "samp", "big", "tt", "label", "bdi", "bdo", "ruby", "rb", "rt", "data"),
    *("caption", "legend", "output", "nobr", "acronym"),
}
_IMAGES = {"img", "picture", "svg", "canvas", "video", "object", "embed"}
_DESCRIPTIONS = ("data-description", "alt", "aria-label", "title")
_VOID = {"br", "hr"}
_INLINE = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "span", "b", "strong", "i", "em", "sub", "sup"}
"""Elements that no block may stand in."""
_NAMES = re.compile(r"[\w-]{1,60}")
_MATH = re.compile(
    r"\\\(((?:(?!\\\().)+?)\\\)"  # none of the three goes past another beginning: linear in time
    r"|(?<!\\)\\\[((?:(?!(?<!\\)\\\[).)+?)\\\]"
    r"|\$\$((?:(?!\$\$).)+)\$\$",
    re.DOTALL,
)
_DISPLAY = re.compile(r"\\\[|\$\$")
_LANGUAGE = re.compile(r"([A-Za-z]{2})(?:[-_].*)?")


@dataclass
class ModelPage:
    """What is left of a model's page."""

    body: str
    """HTML; formulas as `web.formulas` writes them."""
    css: str
    language: str
    """Two letters."""
    right_to_left: bool
    faults: list[str] = field(default_factory=list)
    """What makes the page unfit for tests, in sentences that a model can act on."""
    left: Counter[str] = field(default_factory=Counter)
    """How much was left behind, by reason."""


def read_model_html(source: str) -> ModelPage:
    """Read what a model wrote.

    Raises:
        ValueError: too large, not HTML, nested too deep, or without text.
    """
    if len(source) > MAX_CHARS:
        raise ValueError(f"the HTML has {len(source)} characters, more than {MAX_CHARS}")
    source = _MATH.sub(_without_tags, source)
    try:
        root = document_fromstring(source, parser=HTMLParser(huge_tree=False))
    except (etree.ParserError, etree.XMLSyntaxError, ValueError, AssertionError) as error:
        raise ValueError(f"not an HTML page ({error})") from error
    told = _LANGUAGE.fullmatch(root.get("lang") or "")
    body = root.find("body")
    body = root if body is None else body
    rtl = "rtl" in (root.get("dir"), body.get("dir"))
    page = ModelPage("", "", told[1].lower() if told else "en", rtl)
    page.css = safe_sheet("\n".join(style.text or "" for style in root.iter("style")))
    style = safe_declarations(body.get("style") or "")
    if style:
        page.css += f"\n.{PAGE_CLASS}{{{style}}}"
    page.body = "".join(_Writer(page).inside(body, 0))
    if len(re.sub(r"<[^>]*>|\s", "", page.body)) < LEAST_CHARACTERS:
        raise ValueError(f"the HTML has less than {LEAST_CHARACTERS} characters of text")
    page.faults = list(_faults(page.body))
    return page


def _without_tags(match: re.Match[str]) -> str:
    """A formula whose `<` is a relation, which a model may well write as it is."""
    text = match[0]
    return text if re.search(r"</|<\w+[ >/]", text) else text.replace("<", "&lt;")


def shown_html(page: ModelPage, width: int, height: int, scale: float) -> str:
    """The page as the browser sets it, on paper of `width` x `height` CSS pixels."""
    body, _ = displayed(page.body)
    direction = "rtl" if page.right_to_left else "ltr"
    style = _BASE.format(
        width=width, height=height, scale=scale, inner=width / scale, direction=direction
    )
    return (
        f'<!DOCTYPE html><html lang="{page.language}"><head><meta charset="utf-8"><style>{style}\n'
        f'{page.css}</style></head><body><div class="text"><div class="{PAGE_CLASS}">{body}</div>'
        "</div></body></html>"
    )


def truth_html(page: ModelPage) -> str:
    """The same page for `proof.html_truth`."""
    return (
        f'<!DOCTYPE html><html lang="{page.language}"><head><meta charset="utf-8"></head>'
        f"<body>{readable(page.body)}</body></html>"
    )


_BASE = """
@page{{size:{width}px {height}px;margin:0}}
*{{box-sizing:border-box}}
html,body{{margin:0;padding:0;background:#fff;color:#111}}
.text{{width:{width}px;height:{height}px;overflow:hidden;direction:{direction}}}
.page{{zoom:{scale};width:{inner:.2f}px;padding:16px;overflow-wrap:anywhere;
font:14px/1.35 'Liberation Serif','Times New Roman','Noto Sans CJK KR','Noto Sans CJK SC',
'Noto Sans CJK JP','Noto Sans Arabic','DejaVu Serif',serif}}
.page p,.page ul,.page ol,.page table,.page pre{{margin:0 0 .6em}}
.page h1,.page h2,.page h3,.page h4,.page h5,.page h6{{margin:.4em 0;line-height:1.2}}
.page table{{border-collapse:collapse;max-width:100%}}
.page td,.page th{{padding:.15em .4em;vertical-align:top}}
.page .image{{border:1px solid #777;background:#eee;min-height:2em;min-width:2em;max-width:100%}}
.page div.tex{{text-align:center;margin:.4em 0}}
"""


def _faults(body: str) -> Iterator[str]:
    try:
        tables = parse_html_tables(body)
    except WorkLimitError as error:
        yield str(error)
        return
    for number, table in enumerate(tables, start=1):
        if not table.is_rectangular:
            yield (
                f"table {number}: its rows do not fill the same number of columns "
                f"({table.n_rows} rows, {table.n_cols} columns); mend colspan, rowspan or cells"
            )
    if re.search(r"<t[dh][^>]*>(?:(?!</t[dh]>).)*<table>", body, re.DOTALL):
        yield "a table stands in a cell of another; make it part of the outer one"
    formulas = body.count('class="tex"')
    if formulas > MAX_FORMULAS:
        yield f"{formulas} formulas, at most {MAX_FORMULAS} can be set"
        return
    for tex in displayed(body)[1]:
        yield f"the formula {tex[:80]!r} cannot be rendered by KaTeX"


class _Writer:
    """Writes elements anew; counts what is left behind."""

    def __init__(self, page: ModelPage) -> None:
        self.left = page.left
        self.elements = 0
        self.display = True

    def inside(self, element: HtmlElement, depth: int, inline: bool = False) -> Iterator[str]:
        """Content of an element."""
        if depth > MAX_DEPTH:
            raise ValueError(f"elements are nested more than {MAX_DEPTH} deep")
        yield _text(element.text, inline)
        for child in element:
            yield from self.element(child, depth + 1, inline)
            yield _text(child.tail, inline)

    def element(self, element: HtmlElement, depth: int, inline: bool) -> Iterator[str]:
        """An element without its tail."""
        self.elements += 1
        if self.elements > MAX_ELEMENTS:
            raise ValueError(f"more than {MAX_ELEMENTS} elements")
        tag = element.tag
        if not isinstance(tag, str) or tag in ("style", "head", "title", "meta"):
            return
        if is_hidden(element):
            self.left["hidden element"] += 1
        elif (tex := formula_of(element)) is not None:
            yield tex
        elif _is_image(element):
            yield self.image(element)
        elif tag in _UNWRAPPED:
            yield from self.inside(element, depth, inline)
        elif tag in _KEPT or tag in _AS_DIV:
            yield from self.kept(element, depth, inline)
        else:
            self.left[f"<{tag[:20]}>"] += 1

    def kept(self, element: HtmlElement, depth: int, inline: bool) -> Iterator[str]:
        """An element that stays, with what is harmless of its attributes."""
        tag = _new_tag(element)
        if tag in _VOID:
            yield f"<{tag}>"
            return
        if tag == "table":
            for caption in element.iterchildren("caption"):
                yield f"<p>{''.join(self.inside(caption, depth, True))}</p>"
                element.remove(caption)
        start = f"<{tag}{''.join(_attributes(element))}>"
        if tag == "pre":
            inner = html.escape(element.text_content().strip("\n").expandtabs(4), quote=False)
        else:
            inner = "".join(self.inside(element, depth, inline or tag in _INLINE))
        yield f"{start}{inner}</{tag}>"

    def image(self, element: HtmlElement) -> str:
        """An empty box with the description and the place that the model gave."""
        found = (element.get(name) for name in _DESCRIPTIONS)
        words = " ".join(next((text for text in found if text), "image").split())[:400]
        sides = {side: element.get(f"data-{side}") or "" for side in ("x", "y", "width", "height")}
        if not all(value.isdigit() and len(value) < 5 for value in sides.values()):
            sides = {}
        data = "".join(f' data-{side}="{value}"' for side, value in sides.items())
        style = safe_declarations(element.get("style") or "") or _size(element)
        return (
            f'<div class="image" data-description="{html.escape(words)}"{data} '
            f'style="{html.escape(style)}"></div>'
        )


def _is_image(element: HtmlElement) -> bool:
    return element.tag in _IMAGES or "image" in (element.get("class") or "").split()


def _new_tag(element: HtmlElement) -> str:
    tag = str(element.tag)
    if tag == "header" and next(element.iter("h1", "h2"), None) is not None:
        return "div"  # a title, which the public code reads as content
    if tag == "p" and (_DISPLAY.search(element.text_content()) or any(map(_is_image, element))):
        return "div"  # a box or a formula on a line of its own may not stand in a paragraph
    return "div" if tag in _AS_DIV else tag


def _attributes(element: HtmlElement) -> Iterator[str]:
    names = [n for n in (element.get("class") or "").split()[:8] if _NAMES.fullmatch(n)]
    if names:
        yield f' class="{" ".join(map(own_name, names))}"'
    if _NAMES.fullmatch(element.get("id") or ""):
        yield f' id="{own_name(element.get("id"))}"'
    for name in ("colspan", "rowspan"):
        value = element.get(name) or ""
        if value.isdigit() and len(value) < 4 and 1 < int(value) <= 100:
            yield f' {name}="{int(value)}"'
    style = safe_declarations(element.get("style") or "")
    if style:
        yield f' style="{html.escape(style)}"'


def _size(element: HtmlElement) -> str:
    """Size of an image box from the numbers that the model gave."""
    found = []
    for side in ("width", "height"):
        value = element.get(f"data-{side}") or element.get(side) or ""
        if value.isdigit() and 0 < len(value) < 5:
            found.append(f"{'min-height' if side == 'height' else side}:{value}px")
    return ";".join(found)


def _text(text: str | None, inline: bool) -> str:
    """Escaped text, formulas between delimiters taken out."""
    replace: Callable[[re.Match[str]], str] = lambda match: formula(  # noqa: E731
        html.unescape(next(g for g in match.groups() if g)).strip(),
        display=match[1] is None and not inline,
    )
    return _MATH.sub(replace, html.escape(re.sub(r"\s+", " ", text or ""), quote=False))
