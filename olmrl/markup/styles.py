"""Which CSS styles, and attributes that came before them, take text out of sight."""

from __future__ import annotations

import html
import re

_LENGTH = re.compile(r"(-?\d{0,9}\.?\d{1,9})\s?(px|pt|em|rem|ex|ch|%|vw|vh|mm|cm|in|pc)?(?![\w.])")
_SMALLEST = {"px": 3.99, "pt": 3.99, "%": 10, "mm": 1, "vw": 0.3, "vh": 0.3, "": 0}
"""Sizes up to which nothing can be read; in units of a letter or larger, 0.15."""
_FARTHEST = {"px": 100, "pt": 100, "%": 50, "mm": 30, "": 100}
"""Distances from which text is moved away; in units of a letter or larger, 10."""
_MOVES = re.compile(r"margin(?:-left|-top|-right|-bottom)?|left|top|right|bottom|text-indent|inset")
_EXTENTS = ("width", "height", "max-width", "max-height", "line-height")
_OVERFLOWS = ("overflow", "overflow-x", "overflow-y")
_COVERS = ("clip", "clip-path", "filter", "mix-blend-mode", "mask", "mask-image", "-webkit-mask")
_NOTHING = frozenset(("none", "auto", "normal", "inherit", "initial", "unset", "transparent", ""))
_WHITE_NAMES = frozenset(
    (
        *("white", "snow", "ivory", "whitesmoke", "ghostwhite", "floralwhite", "azure", "beige"),
        *("mintcream", "seashell", "aliceblue", "honeydew", "lightyellow", "linen"),
        *("oldlace", "lavenderblush", "cornsilk"),
    )
)
_FAINTEST = 230
_LONGEST_STYLE = 2000


def declarations(attributes: dict[str, str]) -> dict[str, str]:
    """What a style attribute and its predecessors in HTML declare, lower case."""
    declared = {"color": attributes.get("color", ""), "background": attributes.get("bgcolor", "")}
    style = html.unescape(attributes.get("style", "")[:_LONGEST_STYLE]).lower()
    style = re.sub(r"/\*.*?(?:\*/|\Z)", "", style, flags=re.DOTALL)
    for declaration in style.split(";"):
        name, _, value = declaration.partition(":")
        declared[name.strip()] = value.replace("!important", "").strip()
    return {name: value for name, value in declared.items() if value}


def _background(style: dict[str, str]) -> str:
    return (
        style.get("background-color")
        or style.get("background")
        or style.get("background-image", "")
    )


def has_background(style: dict[str, str]) -> bool:
    """Whether an element has a background that is not like paper."""
    background = _background(style)
    return not (background in _NOTHING or is_white(background) or _is_clear(background))


def hides(attributes: dict[str, str], style: dict[str, str], on_paper: bool) -> bool:
    """Whether attributes take an element's content out of sight."""
    if not attributes:
        return False
    return (
        "hidden" in attributes
        or attributes.get("size") == "0"
        or _hides_ink(style, on_paper)
        or _hides_box(style)
    )


def _hides_ink(style: dict[str, str], on_paper: bool) -> bool:
    for name in ("color", "-webkit-text-fill-color"):
        ink = style.get(name, "")
        if ink and (_is_clear(ink) or ink == _background(style) or (on_paper and is_white(ink))):
            return True
    sizes = ("font-size", "font", "opacity", "zoom")
    return any(_too_small(name, style[name]) for name in sizes if name in style)


def _too_small(name: str, value: str) -> bool:
    found = _LENGTH.findall(value)
    if name == "font":
        return any(unit and _is_tiny(number, unit) for number, unit in found) or value[:1] == "0"
    number, unit = found[0] if found else ("1", "em")
    return _is_tiny(number, unit) or (
        name in ("opacity", "zoom") and not unit and float(number) < 0.1
    )


def _is_tiny(number: str, unit: str) -> bool:
    return abs(float(number)) <= _SMALLEST.get(unit, 0.15)


def _hides_box(style: dict[str, str]) -> bool:
    """Whether a box is not displayed, of no size, covered, or elsewhere."""
    if style.get("display") == "none" or style.get("visibility") in ("hidden", "collapse"):
        return True
    if style.get("content-visibility") == "hidden":
        return True
    if style.get("position") in ("absolute", "fixed", "sticky"):
        return True
    if any(style.get(name, "") not in _NOTHING for name in _COVERS):
        return True
    if any(style.get(name) in ("hidden", "clip") for name in _OVERFLOWS) and any(
        _too_small(name, style[name]) for name in _EXTENTS if name in style
    ):
        return True
    if any(_MOVES.fullmatch(name) and _is_far(value) for name, value in style.items()):
        return True
    return any(_moves(style[name]) for name in ("transform", "translate", "scale") if name in style)


def _is_far(value: str) -> bool:
    """Whether a distance leads off the page: any to the left, long ones to the right."""
    for number, unit in _LENGTH.findall(value):
        limit = _FARTHEST.get(unit, 10)
        if float(number) <= -limit or float(number) > 10 * limit:
            return True
    return False


def _moves(value: str) -> bool:
    """Whether a transformation moves text away or leaves nothing of it; turning it does not."""
    scales = "scale" in value or "matrix" in value or not re.search("[a-z]+\\(", value)
    if re.search(r"rotate[xy3]", value) or (
        scales and re.search(r"(?<![\d.])0*\.?0+\d?(?![\d.])", value)
    ):
        return True
    return _is_far(value)


def _is_clear(colour: str) -> bool:
    """Whether a CSS colour is transparent, or nearly."""
    colour = colour.lower().replace("!important", "").strip(" '\"")
    if colour == "transparent":
        return True
    if re.fullmatch(r"#[0-9a-f]{8}", colour):
        return int(colour[-2:], 16) < 40
    if re.fullmatch(r"#[0-9a-f]{4}", colour):
        return int(colour[-1], 16) < 3
    numbers = re.findall(r"\d*\.?\d+%?", colour) if colour.startswith(("rgb", "hsl")) else []
    return len(numbers) > 3 and float(numbers[3].rstrip("%")) <= (20 if "%" in numbers[3] else 0.2)


def is_white(colour: str) -> bool:
    """Whether a CSS or LaTeX colour can hardly be told from paper."""
    colour = colour.lower().replace("!important", "").strip(" '\"")
    if colour in _WHITE_NAMES or _is_clear(colour):
        return True
    if re.fullmatch(r"#?[0-9a-f]{3,4}|#?[0-9a-f]{6}|#?[0-9a-f]{8}", colour):
        digits = colour.lstrip("#")
        step = 1 if len(digits) < 6 else 2
        parts = [int(digits[i : i + step] * (3 - step), 16) for i in range(0, 3 * step, step)]
        return min(parts) >= _FAINTEST
    if colour.startswith(("rgb", "hsl")):
        numbers = [float(n) for n in re.findall(r"\d*\.?\d+", colour)]
        light = numbers[2:3] if colour.startswith("hsl") else [n / 2.55 for n in numbers[:3]]
        return bool(light) and min(light) >= _FAINTEST / 2.55
    return False
