"""Whether the letters of a clean page can still be read in a damaged picture of it.

Each letter has a box in the PDF's text layer. Inside the box, the damaged picture is held against
the clean one: the slope of the one over the other says how much contrast the ink has kept, their
correlation says whether it is still this letter's shape. A blot, a fold or a page that shines
through lowers the second, fading and shadow the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageFilter

from olmrl.synth.proof.layer import Box, TextLayer
from olmrl.types import UInt8Array

LEAST_KEPT = 0.25
"""Share of a letter's contrast that must be left."""
LEAST_LIKENESS = 0.6
"""Correlation of a letter with its clean self."""
LEAST_LEVELS = 16
"""Grey levels (of 255) of contrast that must be left."""
MOST_LOST = 0.02
"""Share of a page's letters that a damage may make unreadable."""
LEAST_PIXELS = 6.0
"""Height in the picture of the middle one of a page's letters, in pixels."""

_MARGIN = 2
"""Pixels around a letter's box that are looked at too."""

Matrix = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class DamagedLayer(TextLayer):
    """A page's text layer over a damaged picture: a letter has ink if it can still be read."""

    damaged: UInt8Array
    """[H, W], over the clean picture's pixels (see `over`)."""

    @classmethod
    def over(
        cls, layer: TextLayer, picture: UInt8Array, back: Matrix | None = None
    ) -> DamagedLayer:
        """Lay a damaged picture over the clean one.

        Args:
            layer: Of the clean page.
            picture: [H', W'] or [H', W', 3], of the whole page.
            back: From the picture's own upright pixels to where they lie; see
                `variants.scan.Scanned`.
        """
        height, width = layer.grey.shape
        grey = Image.fromarray(picture).convert("L")
        x, y = grey.width / width, grey.height / height
        a, b, c, d, e, f = back or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        matrix = (a * x, b * y, c, d * x, e * y, f)
        laid = grey.transform(
            (width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
        )
        facts = {name: getattr(layer, name) for name in TextLayer.__dataclass_fields__}
        return cls(**facts, damaged=np.asarray(laid))

    @property
    def lost(self) -> float:
        """Share of the letters that could be seen and can be no more."""
        clean = [super(DamagedLayer, self)._has_ink(box) for box in self.boxes]
        gone = sum(ink and not self._read[box] for ink, box in zip(clean, self.boxes, strict=True))
        return gone / max(1, sum(clean))

    def _has_ink(self, box: Box) -> bool:
        return self._read[box] and super()._has_ink(box)

    @cached_property
    def _read(self) -> dict[Box, bool]:
        rows, columns = self.grey.shape
        scale = np.array([columns / self.width, rows / self.height] * 2)
        boxes = np.array(self.boxes, np.float64).reshape(-1, 4)
        boxes[:, [1, 3]] = self.height - boxes[:, [3, 1]]
        found = readable(self.grey, self.damaged, boxes * scale)
        return dict(zip(self.boxes, found.tolist(), strict=True))


def readable(clean: UInt8Array, damaged: UInt8Array, boxes_L4: np.ndarray) -> np.ndarray:
    """Which of L letters can still be read.

    Args:
        clean: [H, W] grey.
        damaged: [H, W] grey.
        boxes_L4: Left, top, right and bottom of each letter, in pixels.

    Returns:
        [L] bool.
    """
    low = np.floor(boxes_L4[:, :2]).astype(int) - _MARGIN
    high = np.ceil(boxes_L4[:, 2:]).astype(int) + _MARGIN
    limits = np.array(clean.shape[::-1])
    left, top = np.clip(low, 0, limits).T
    right, bottom = np.clip(high, 0, limits).T
    count = np.maximum(1, (right - left) * (bottom - top))

    def mean(image: np.ndarray) -> np.ndarray:
        sums = np.zeros((image.shape[0] + 1, image.shape[1] + 1))
        np.cumsum(np.cumsum(image, axis=0), axis=1, out=sums[1:, 1:])
        whole = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
        return np.asarray(whole / count)

    a, b = (_softened(image) for image in (clean, damaged))
    mean_a, mean_b = mean(a), mean(b)
    own = np.maximum(mean(a * a) - mean_a**2, 1e-9)
    other = np.maximum(mean(b * b) - mean_b**2, 1e-9)
    both = mean(a * b) - mean_a * mean_b
    kept, likeness = both / own, both / np.sqrt(own * other)
    levels = 2 * kept * np.sqrt(own)  # of a letter that fills half of its box
    return np.asarray(
        (kept >= LEAST_KEPT) & (likeness >= LEAST_LIKENESS) & (levels >= LEAST_LEVELS)
    )


def _softened(image: UInt8Array) -> np.ndarray:
    """Blurred by a pixel, so that half a pixel of shift is none."""
    soft = Image.fromarray(image).filter(ImageFilter.GaussianBlur(1.0))
    return np.asarray(soft, np.float64)


def letter_height(layer: TextLayer) -> float:
    """Points of the middle one of a page's letters, about half of its font size."""
    heights = [box.top - box.bottom for box in layer.boxes]
    return float(np.median(heights)) if heights else 0.0
