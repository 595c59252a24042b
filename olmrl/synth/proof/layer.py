"""Proof after the render: what a test looks for stands on the page, and can be seen there.

The page's own text layer says where each letter is; its picture says whether there is ink. A letter
that is clipped, covered, outside the page or in the colour of its ground has no contrast inside its
box, whatever the reason.
"""

from __future__ import annotations

import ctypes
import html
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_raw
from PIL import Image

from olmrl.data import fence
from olmrl.data.render import load_page_of, open_pdf, render_page
from olmrl.markup import front_matter
from olmrl.synth.proof.letters import is_right_to_left, key, letters_of
from olmrl.synth.proof.reading import words

SIDE = 1600
"""Pixels of the longer side of the picture that is looked at."""
LEAST_CONTRAST = 60
"""Grey levels (of 255) between the darkest and the lightest pixel of a letter that can be seen."""
LEAST_PIXELS = 4
"""Height in that picture of the tallest of the letters before (or after) one that can be read."""
_AROUND = 6
"""Letters on a side that tell how large a letter is set; some are small by themselves."""
MOST_UNSEEN = 0.1
"""Share of a text's letters that may lack ink (thin marks, letters in ligatures)."""
MOST_UNSEEN_IN_A_ROW = 12
"""Letters in a row that may lack ink; more is text that nobody sees."""
MOST_MISSING = 0.01
"""Share of the truth's words that the page may lack."""
MOST_EXTRA = 0.03
"""Share of the page's words that the truth may lack."""

_ITALIC = 1 << 6
"""Bit of a font descriptor's flags (PDF 32000-1, table 123)."""
_BOLD = 600

_TAGS = re.compile(r"<[^>]*>")
_MARKUP = re.compile(
    r"^```$|\\\(.+?\\\)|\\\[.+?\\\]|!\[[^\]]*\]\([^)]*\)|^#+ |^\s*(?:[-*+]|\d{1,3}[.)])\s",
    re.DOTALL | re.MULTILINE,
)


class Box(NamedTuple):
    """A letter's box in points, y upwards."""

    left: float
    bottom: float
    right: float
    top: float


class Face(NamedTuple):
    """How a letter is set."""

    size: float
    """Points."""
    bold: bool
    italic: bool


@dataclass(frozen=True)
class TextLayer:
    """The letters of a one-page PDF in the order of its text layer, and its picture."""

    letters: str
    """As `key` has them."""
    boxes: tuple[Box, ...]
    """Of each of `letters`."""
    indices: tuple[int, ...]
    """Of each of `letters` in `text`."""
    text: str
    """All of the layer."""
    width: float
    """Points."""
    height: float
    grey: np.ndarray
    """[H, W] uint8."""
    path: str

    @classmethod
    def of(cls, pdf_path: str) -> TextLayer:
        """Read a PDF.

        Raises:
            BadPage: it cannot be read.
        """
        letters, boxes, indices, text, width, height = fence.call(_read_layer, pdf_path, 1)
        picture = Image.fromarray(render_page(pdf_path, 1, SIDE))
        grey = np.asarray(picture.convert("L"))
        return cls(letters, boxes, indices, text, width, height, grey, pdf_path)

    @cached_property
    def faces(self) -> tuple[Face, ...]:
        """Of each of `letters`; read when first asked for, as few pages need them."""
        found: tuple[Face, ...] = fence.call(_read_faces, self.path, 1, self.indices)
        return found

    def places(self, needle: str) -> Iterator[range]:
        """Where a text stands, as ranges of letters."""
        wanted = key(needle)
        at = self.letters.find(wanted) if wanted else -1
        while at >= 0:
            yield range(at, at + len(wanted))
            at = self.letters.find(wanted, at + 1)

    def is_seen(self, place: range) -> bool:
        """Whether the letters there lie on the page and have ink."""
        return sum(not self._seen[i] for i in place) <= MOST_UNSEEN * len(place)

    @cached_property
    def _seen(self) -> list[bool]:
        large = self._is_large()
        return [bool(large[i]) and self._has_ink(box) for i, box in enumerate(self.boxes)]

    def _is_large(self) -> np.ndarray:
        """Whether each letter is set large enough to be read, [letters] bool."""
        heights = np.array([box.top - box.bottom for box in self.boxes])
        around = np.pad(heights, _AROUND, constant_values=np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(around, _AROUND + 1).max(axis=1)
        tallest = np.minimum(windows[: len(heights)], windows[_AROUND:])
        return np.asarray(tallest * SIDE >= LEAST_PIXELS * max(self.width, self.height))

    def unseen_run(self) -> str:
        """The longest run of letters that cannot be seen."""
        longest, at = range(0), 0
        for is_seen, run in groupby(self._seen):
            end = at + sum(1 for _ in run)
            if not is_seen and end - at > len(longest):
                longest = range(at, end)
            at = end
        return self.letters[longest.start : longest.stop]

    def _has_ink(self, box: Box) -> bool:
        if box.left < -1 or box.bottom < -1:
            return False
        if box.right > self.width + 1 or box.top > self.height + 1:
            return False
        rows, columns = self.grey.shape
        x, y = columns / self.width, rows / self.height
        left, right = int(box.left * x), int(np.ceil(box.right * x)) + 1
        top, bottom = (
            int((self.height - box.top) * y),
            int(np.ceil((self.height - box.bottom) * y)) + 1,
        )
        part = self.grey[max(0, top) : bottom, max(0, left) : right]
        return bool(part.size) and int(part.max()) - int(part.min()) >= LEAST_CONTRAST

    @cached_property
    def right_to_left(self) -> bool:
        """Whether most of it is read from the right."""
        return is_right_to_left(self.text)

    def box(self, place: range) -> Box:
        """The box around some letters."""
        found = np.array([self.boxes[i] for i in place])
        low, high = found.min(axis=0), found.max(axis=0)
        return Box(float(low[0]), float(low[1]), float(high[2]), float(high[3]))


def _read_layer(
    pdf_path: str, page_number: int
) -> tuple[str, tuple[Box, ...], tuple[int, ...], str, float, float]:
    """Letters, their boxes and indices, all of the text, width and height of a page."""
    with open_pdf(pdf_path, page_number) as document:
        page = load_page_of(document, pdf_path, page_number)
        width, height = page.get_size()
        layer = page.get_textpage()
        count = layer.count_chars()
        text = "".join(chr(pdfium_raw.FPDFText_GetUnicode(layer, i)) for i in range(count))
        placed = letters_of(text)
        boxes = tuple(Box(*layer.get_charbox(index)) for _, index in placed)
    letters = "".join(letter for letter, _ in placed)
    return letters, boxes, tuple(index for _, index in placed), text, width, height


def _read_faces(pdf_path: str, page_number: int, indices: tuple[int, ...]) -> tuple[Face, ...]:
    """How the letters with these indices in a page's text layer are set."""
    with open_pdf(pdf_path, page_number) as document:
        layer = load_page_of(document, pdf_path, page_number).get_textpage()
        return tuple(_face(layer, index) for index in indices)


def _face(layer: pdfium.PdfTextPage, index: int) -> Face:
    name = (ctypes.c_char * 128)()
    flags = ctypes.c_int()
    pdfium_raw.FPDFText_GetFontInfo(layer.raw, index, name, len(name), flags)
    style = name.value.decode("utf-8", "replace").lower()
    weight = pdfium_raw.FPDFText_GetFontWeight(layer.raw, index)
    slanted = "italic" in style or "oblique" in style or bool(flags.value & _ITALIC)
    size = pdfium_raw.FPDFText_GetFontSize(layer.raw, index)
    return Face(float(size), "bold" in style or weight >= _BOLD, slanted)


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
    unseen = sum(not seen for seen in layer._seen)
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
