"""Proof after the render: what a test looks for stands on the page, and can be seen there."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from olmrl.markup import front_matter
from olmrl.synth.proof.layer import MOST_UNSEEN, Box, Face, TextLayer
from olmrl.synth.proof.letters import key
from olmrl.synth.proof.reading import words

MOST_UNSEEN_IN_A_ROW = 12
"""Letters in a row that may lack ink; more is text that nobody sees."""
MOST_MISSING = 0.01
"""Share of the truth's words that the page may lack."""
MOST_EXTRA = 0.03
"""Share of the page's words that the truth may lack."""

_TAGS = re.compile(r"<[^>]*>")
_MARKUP = re.compile(
    r"^```$|\\\(.+?\\\)|\\\[.+?\\\]|!\[[^\]]*\]\([^)]*\)|^#+ |^\s*(?:[-*+]|\d{1,3}[.)])\s",
    re.DOTALL | re.MULTILINE,
)


def page_objection(layer: TextLayer, truth: str, furniture: tuple[str, ...]) -> str:
    """Why a page as a whole does not show its truth; empty if it does.

    Compares words as a multiset: what the truth says and the page lacks, and the other way round.
    Formulas and descriptions of images are left out, headers and footers belong to the page.
    """
    body = _MARKUP.sub(" ", front_matter.strip(truth))
    told = Counter(key(word) for word in html.unescape(_TAGS.sub(" ", body)).split())
    del told[""]
    shown = layer.letters
    missing = sum(count for word, count in told.items() if len(word) > 1 and word not in shown)
    if missing > MOST_MISSING * told.total():
        first = next(w for w in told if len(w) > 1 and w not in shown)
        return f"the page lacks {missing} of the truth's {told.total()} words, e.g. {first!r}"
    unseen = sum(not seen for seen in layer.seen)
    if unseen > MOST_UNSEEN * max(1, len(layer.boxes)):
        return f"{unseen} of {len(layer.boxes)} letters cannot be seen"
    if len(run := layer.unseen_run()) > MOST_UNSEEN_IN_A_ROW:
        return f"{len(run)} letters in a row cannot be seen: {run[:40]!r}"
    all_told = key(truth) + "".join(key(line) for line in furniture)
    extra = [word for word in words(layer.text) if len(key(word)) > 2 and key(word) not in all_told]
    if len(extra) > MOST_EXTRA * max(1, len(words(layer.text))):
        return f"the truth lacks {len(extra)} words of the page, e.g. {extra[0]!r}"
    return ""


def test_objection(layer: TextLayer, test: Mapping[str, Any]) -> str:
    """Why a page does not bear a test out; empty if it does."""
    kind = test["type"]
    if kind in ("baseline", "math"):
        return ""  # formulas are set from what is tested, and a render that fails drops the page
    if kind == "order":
        return _order(layer, test)
    if kind == "table":
        return _table(layer, test)
    if kind == "format":
        return _format(layer, test)
    if kind == "footnote":
        return _footnote(layer, test)
    needle = str(test["text"])
    if not key(needle):
        return ""
    return "" if _seen_places(layer, needle) else f"{kind}: its text cannot be seen on the page"


def _seen_places(layer: TextLayer, needle: str) -> list[range]:
    return [place for place in layer.places(needle) if layer.is_seen(place)]


def _order(layer: TextLayer, test: Mapping[str, Any]) -> str:
    before, after = (_seen_places(layer, test[name]) for name in ("before", "after"))
    if not before or not after:
        return "order: a text cannot be seen on the page"
    if before[0].start < after[-1].start:
        return ""
    return "order: the text layer has it the other way round"


def _format(layer: TextLayer, test: Mapping[str, Any]) -> str:
    """The text is set in the face that the test names; a heading is large or bold."""
    places = _seen_places(layer, str(test["text"]))
    kind = str(test["format"])
    usual = float(np.median([face.size for face in layer.faces]))
    shows: dict[str, Callable[[Face], bool]] = {
        "bold": lambda face: face.bold,
        "italic": lambda face: face.italic,
        "heading": lambda face: face.bold or face.size > 1.02 * usual,
    }
    for place in places:
        if sum(shows[kind](layer.faces[i]) for i in place) > len(place) / 2:
            return ""
    return f"format: its text is not {kind}" if places else "format: its text cannot be seen"


def _footnote(layer: TextLayer, test: Mapping[str, Any]) -> str:
    """The mark stands between its words, smaller than they are or raised."""
    before, after = (str(test.get(f"appears_{side}_marker") or "") for side in ("before", "after"))
    mark = str(test["marker"])
    places = _seen_places(layer, before + mark + after)
    first = len(key(before))
    for place in places:
        marks = place[first : first + len(key(mark))]
        others = [*place[:first], *place[first + len(marks) :]]
        if not marks or not others or _is_raised(layer, marks, others):
            return ""
    why = "is set as plain text" if places else "cannot be seen between its words"
    return f"footnote: its mark {why}"


def _is_raised(layer: TextLayer, marks: range, others: list[int]) -> bool:
    size = float(np.median([layer.faces[i].size for i in others]))
    foot = float(np.median([layer.boxes[i].bottom for i in others]))
    return all(
        layer.faces[i].size < 0.92 * size or layer.boxes[i].bottom > foot + 0.15 * size
        for i in marks
    )


_SIDES = ("up", "down", "left", "right")
_MIRRORED = {"left": "right", "right": "left"}
"""Where a cell's left neighbour lies in a table that is read from the right."""


def _table(layer: TextLayer, test: Mapping[str, Any]) -> str:
    """Cells stand where the test says: neighbours on their side, headings above or to the left."""
    cells = [layer.box(place) for place in _seen_places(layer, str(test["cell"]))]
    if not cells:
        return "table: its cell cannot be seen on the page"
    for name in (*_SIDES, "top_heading", "left_heading"):
        wanted = str(test.get(name) or "")
        if not key(wanted):
            continue
        side = {"top_heading": "up", "left_heading": "left"}.get(name, name)
        side = _MIRRORED.get(side, side) if layer.right_to_left else side
        others = [layer.box(place) for place in _seen_places(layer, wanted)]
        if not any(_lies(side, other, cell) for cell in cells for other in others):
            return f"table: {name} does not stand where the test says"
    return ""


def _lies(side: str, other: Box, cell: Box) -> bool:
    slack = 1.0
    return {
        "up": other.bottom >= cell.top - slack,
        "down": other.top <= cell.bottom + slack,
        "left": other.right <= cell.left + slack,
        "right": other.left >= cell.right - slack,
    }[side]
