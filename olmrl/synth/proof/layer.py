"""The text layer of a page as it was set: each letter, where it stands, and whether it can be seen.

The page's own text layer says where each letter is; its picture says whether there is ink. A letter
that is clipped, covered, outside the page or in the colour of its ground has no contrast inside its
box, whatever the reason.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_raw
from PIL import Image

from olmrl.data import fence
from olmrl.data.render import as_shown, load_page_of, open_pdf, page_box, render_page
from olmrl.synth.proof.letters import is_right_to_left, key, letters_of

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

_ITALIC = 1 << 6
"""Bit of a font descriptor's flags (PDF 32000-1, table 123)."""
_BOLD = 600


class Box(NamedTuple):
    """A letter's box in points as the page is seen, y upwards."""

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
        return sum(not self.seen[i] for i in place) <= MOST_UNSEEN * len(place)

    @cached_property
    def seen(self) -> list[bool]:
        """Of each of `letters`: whether it lies on the page, has ink and is large enough."""
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
        for is_seen, run in groupby(self.seen):
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
        width, height = page_box(page)
        shown = as_shown(page)
        layer = page.get_textpage()
        count = layer.count_chars()
        text = "".join(chr(pdfium_raw.FPDFText_GetUnicode(layer, i)) for i in range(count))
        placed = letters_of(text)
        boxes = tuple(Box(*shown(layer.get_charbox(index))) for _, index in placed)
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
