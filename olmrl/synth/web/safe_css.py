"""A model's CSS reduced to sizes, spaces, fonts, rules and columns.

What could fetch, hide, cover, reorder or invent text is left out: only known properties with known
forms of values pass, and every selector is confined to the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_CSS_CHARS = 60_000
"""Longest style sheet that is read."""
MAX_RULES = 400
MAX_NUMBER = 4000
"""Largest number in a value: nothing on a page is larger."""
MAX_COLUMNS = 12

PAGE_CLASS = "page"
"""Class of the element that stands for a model's body."""
KNOWN_CLASSES = frozenset(
    ("image", "page-header", "page-footer", "page-number", "footnote", "line-number", "watermark")
)
"""Classes that mean something in HTML truth; others get a prefix of their own."""

_KEYWORDS = r"[a-z-]+(?: [a-z-]+)?"
_FORMS = {
    "display": r"block|inline|inline-block|flex|inline-flex|grid|flow-root|table|table-row"
    r"|table-cell|list-item",
    "flex-direction": "row|column",
    "flex-wrap": "wrap|nowrap",
    "grid-column": r"span \d{1,2}|1 / -1",
    "font-weight": r"bold|normal|bolder|[1-9]00",
    "font-style": "normal|italic|oblique",
    "text-align": "left|right|center|justify|start|end",
    "text-decoration": "underline|none|line-through",
    "vertical-align": "top|middle|bottom|baseline|sub|super",
    "white-space": "normal|nowrap|pre|pre-wrap|pre-line",
    "border-collapse": "collapse|separate",
    "column-span": "all|none",
    "column-fill": "auto|balance",
    "list-style-type": "none|disc|circle|square|decimal|lower-alpha|upper-alpha|lower-roman"
    "|upper-roman",
    "justify-content": _KEYWORDS,
    "align-items": _KEYWORDS,
    "align-self": _KEYWORDS,
    "break-inside": "avoid|auto",
    "break-after": "avoid|auto",
    "break-before": "avoid|auto|column",
    "column-count": r"[1-9]\d?",
}
"""Properties whose values are words."""
_MEASURES = {
    *("width", "min-width", "max-width", "height", "min-height", "gap", "row-gap", "column-gap"),
    *("font", "font-size", "font-family", "line-height", "text-indent", "color"),
    *("background", "background-color", "flex", "flex-grow", "flex-shrink", "flex-basis"),
    *("columns", "column-width", "column-rule", "grid-template-columns", "border-spacing"),
    *("margin", "margin-top", "margin-right", "margin-bottom", "margin-left"),
    *("padding", "padding-top", "padding-right", "padding-bottom", "padding-left"),
    *("border", "border-top", "border-right", "border-bottom", "border-left"),
    *("border-width", "border-style", "border-color", "border-radius"),
}
_VALUE = re.compile(r"[\w\s.,%#'\"()/+*-]{1,160}")
_FUNCTION = re.compile(r"([\w-]+)\s*\(")
_FUNCTIONS = {"rgb", "rgba", "hsl", "hsla", "repeat", "minmax", "calc"}
_BAD_WORDS = re.compile(r"small-caps|\d(?:[sdl]?v(?:[wh]|min|max))\b", re.IGNORECASE)
_NEGATIVE = re.compile(r"(?:^|[\s,(])-\.?\d")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_REPEAT = re.compile(r"repeat\s*\(\s*(\d+)")
_SELECTOR = re.compile(
    r"[\w\s.#>+*-]{1,200}(?::(?:first-child|last-child|nth-child\(\s*[\w+ -]{1,10}\)))?"
)
_NAME = re.compile(r"([.#])([\w-]+)")


def own_name(name: str) -> str:
    """A model's class or id as the page has it."""
    return name if name in KNOWN_CLASSES else f"m-{name}"


def safe_sheet(source: str) -> str:
    """Rules of a style sheet that pass, confined to the page."""
    rules = []
    for selectors, body in _rules(source[:MAX_CSS_CHARS]):
        kept = safe_declarations(body)
        confined = ",".join(filter(None, map(_confined, selectors.split(","))))
        if kept and confined:
            rules.append(f"{confined}{{{kept}}}")
        if len(rules) == MAX_RULES:
            break
    return "\n".join(rules)


def _rules(css: str) -> Iterator[tuple[str, str]]:
    """Plain rules; rules of the kind @name, and whatever stands in them, are left out."""
    css = re.sub(r"/\*.*?(?:\*/|\Z)", " ", css, flags=re.DOTALL)
    at = 0
    while (start := css.find("{", at)) >= 0:
        prelude = css[at:start].rpartition(";")[2].strip()
        end, depth = start + 1, 1
        while depth and end < len(css):
            depth += {"{": 1, "}": -1}.get(css[end], 0)
            end += 1
        body = css[start + 1 : end - 1]
        if not prelude.startswith("@") and "{" not in body:
            yield prelude, body
        at = end


def _confined(selector: str) -> str:
    selector = " ".join(selector.split())
    if not _SELECTOR.fullmatch(selector):
        return ""
    named = _NAME.sub(lambda match: match[1] + own_name(match[2]), selector)
    inside = re.sub(r"^(?:html\s+)?body\b|^html\b", "", named).strip()
    return f".{PAGE_CLASS} {inside}" if inside else f".{PAGE_CLASS}"


def safe_declarations(source: str) -> str:
    """Declarations (of a rule or a style attribute) that pass."""
    kept = []
    for declaration in source[:MAX_CSS_CHARS].split(";"):
        name, colon, value = declaration.partition(":")
        name = name.strip().lower()
        value = " ".join(value.replace("!important", "").split())
        if colon and _passes(name, value):
            # text that outgrows its box would run over what follows
            kept.append(f"{'min-height' if name == 'height' else name}:{value}")
    return ";".join(kept)


def _passes(name: str, value: str) -> bool:
    if name in _FORMS:
        fits = re.fullmatch(_FORMS[name], value.lower()) is not None and "reverse" not in value
        return fits and (name != "column-count" or int(value) <= MAX_COLUMNS)
    if name not in _MEASURES or not _VALUE.fullmatch(value):
        return False
    if _BAD_WORDS.search(value) or _NEGATIVE.search(value):
        return False
    if any(function.lower() not in _FUNCTIONS for function in _FUNCTION.findall(value)):
        return False
    if any(int(count) > MAX_COLUMNS for count in _REPEAT.findall(value)):
        return False
    numbers = [float(number) for number in _NUMBER.findall(value)] if "#" not in value else []
    if name == "columns" and any(n > MAX_COLUMNS for n in numbers) and "px" not in value:
        return False
    if name == "line-height" and numbers and numbers[0] < 0.8:
        return False
    return all(number <= MAX_NUMBER for number in numbers)
