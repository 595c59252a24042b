"""Page pixels to patches, as the Qwen2-VL image processor of transformers cuts them.

Patches stay bytes, and the frames of a still image, which are equal, are one. `Normalisation` says
what a byte is to the model: there are only 256 of them, so it is a table, applied on the device
that uses the patches (`pixels.normalise`); the result is bit-equal to the processor's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from olmrl.errors import PageRefused
from olmrl.types import Float32Array, UInt8Array

_MOST_ELONGATED = 200
_CHANNELS = 3


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What the bytes of a patch are to the model."""

    rescale_factor: float = 1 / 255
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    frames: int = 2
    """Equal frames that the model takes of a still image."""

    def table(self) -> Float32Array:
        """[3, 256] value of each byte in each channel."""
        # Rounded to float32 after the product and again by the normalisation, as transformers does.
        levels = (np.arange(256) * self.rescale_factor).astype(np.float32)
        mean = np.asarray(self.mean, np.float32)[:, None]
        std = np.asarray(self.std, np.float32)[:, None]
        table: Float32Array = (levels - mean) / std
        return table


PUBLISHED = Normalisation()
"""Of the family's published models."""


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """What an image processor's configuration says; the defaults are the family's."""

    patch_size: int = 14
    merge_size: int = 2
    min_pixels: int = 56 * 56
    max_pixels: int = 28 * 28 * 1280
    resample: int = 3
    normalisation: Normalisation = PUBLISHED


_encoded = 0


def images_encoded() -> int:
    """Images that this process has cut into patches so far."""
    return _encoded


class ImagePatcher:
    """Cuts images into patches."""

    def __init__(self, settings: ImageSettings) -> None:
        self._patch = settings.patch_size
        self._merge = settings.merge_size
        self._min_pixels = settings.min_pixels
        self._max_pixels = settings.max_pixels
        self._resample = Image.Resampling(settings.resample)

    def encode(self, image: UInt8Array) -> tuple[UInt8Array, tuple[int, int, int]]:
        """Resize [H, W, 3] pixels and cut them.

        Returns:
            [V, K] patches, one frame, by channel, row and column (K = 3 x patch x patch), in the
            order in which the tower merges them; and their grid (time, height, width).
        """
        global _encoded
        _encoded += 1
        pixels = self._resized(image)
        rows, columns = pixels.shape[0] // self._patch, pixels.shape[1] // self._patch
        merge, patch = self._merge, self._patch
        shape = (rows // merge, merge, patch, columns // merge, merge, patch, _CHANNELS)
        blocks = pixels.reshape(shape)
        cut = blocks.transpose(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns, -1)
        return np.ascontiguousarray(cut), (1, rows, columns)

    def picture(self, patches: UInt8Array, grid: tuple[int, int, int]) -> UInt8Array:
        """[H, W, 3] pixels that patches of an image were cut from: what the model sees of it."""
        _, rows, columns = grid
        merge, patch = self._merge, self._patch
        shape = (rows // merge, columns // merge, merge, merge, _CHANNELS, patch, patch)
        pixels = patches.reshape(shape).transpose(0, 2, 5, 1, 3, 6, 4)
        return np.ascontiguousarray(pixels).reshape(rows * patch, columns * patch, _CHANNELS)

    def _resized(self, image: UInt8Array) -> UInt8Array:
        height, width = image.shape[:2]
        new_height, new_width = target_size(
            height, width, self._patch * self._merge, self._min_pixels, self._max_pixels
        )
        if (new_height, new_width) == (height, width):
            return image
        resized = Image.fromarray(image).resize((new_width, new_height), self._resample)
        return np.asarray(resized)


def target_size(
    height: int, width: int, factor: int, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """Height and width an image is resized to: multiples of `factor`, area within the bounds.

    Keeps the aspect ratio as well as that allows (the Qwen2-VL rule, arXiv 2409.12191).

    Raises:
        PageRefused: one side is more than 200 times the other.
    """
    if max(height, width) > _MOST_ELONGATED * min(height, width):
        raise PageRefused(f"an image of {width} x {height} pixels is too elongated for the model")
    rows, columns = round(height / factor), round(width / factor)
    area = rows * columns * factor * factor
    if area > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows = max(1, math.floor(height / shrink / factor))
        columns = max(1, math.floor(width / shrink / factor))
    elif area < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        rows = math.ceil(height * grow / factor)
        columns = math.ceil(width * grow / factor)
    return rows * factor, columns * factor
