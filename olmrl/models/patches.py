"""Page pixels to normalised patches, bit-equal to the Qwen2-VL image processor of transformers.

Pixel values have only 256 levels, so rescaling and normalising are one table look-up after patches
are cut from the bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from olmrl.errors import PageRefused
from olmrl.types import Float32Array, UInt8Array

_MOST_ELONGATED = 200


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """What an image processor's configuration says; the defaults are the family's."""

    patch_size: int = 14
    merge_size: int = 2
    temporal_patch_size: int = 2
    min_pixels: int = 56 * 56
    max_pixels: int = 28 * 28 * 1280
    resample: int = 3
    rescale_factor: float = 1 / 255
    image_mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    image_std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)


class ImagePatcher:
    """Cuts images into patches."""

    def __init__(self, settings: ImageSettings) -> None:
        self._patch = settings.patch_size
        self._merge = settings.merge_size
        self._frames = settings.temporal_patch_size
        self._min_pixels = settings.min_pixels
        self._max_pixels = settings.max_pixels
        self._resample = Image.Resampling(settings.resample)
        # Rounded to float32 after the product and again by the normalisation, as transformers does.
        levels = (np.arange(256) * settings.rescale_factor).astype(np.float32)
        mean = np.asarray(settings.image_mean, np.float32)[:, None]
        std = np.asarray(settings.image_std, np.float32)[:, None]
        self._table: Float32Array = (levels - mean) / std

    def encode(self, image: UInt8Array) -> tuple[Float32Array, tuple[int, int, int]]:
        """Give [V, D] patches and the patch grid (time, height, width) of [H, W, 3] pixels."""
        pixels = self._resized(image)
        rows, columns = pixels.shape[0] // self._patch, pixels.shape[1] // self._patch
        merge, patch = self._merge, self._patch
        blocks = pixels.reshape(rows // merge, merge, patch, columns // merge, merge, patch, 3)
        count, band = rows * columns, merge * columns
        cut = blocks.transpose(6, 0, 3, 1, 4, 2, 5).reshape(3, count, patch * patch)
        patches = np.empty((count, 3, self._frames, patch * patch), np.float32)
        for start in range(0, count, band):  # band by band, so that each stays in the CPU cache
            for channel in range(3):
                values = self._table[channel].take(cut[channel, start : start + band])
                patches[start : start + band, channel] = values[:, None]
        return patches.reshape(count, -1), (1, rows, columns)

    def grid(self, height: int, width: int) -> tuple[int, int, int]:
        """The patch grid that an image of so many pixels gets."""
        new_height, new_width = self._target(height, width)
        return 1, new_height // self._patch, new_width // self._patch

    def _target(self, height: int, width: int) -> tuple[int, int]:
        factor = self._patch * self._merge
        return target_size(height, width, factor, self._min_pixels, self._max_pixels)

    def _resized(self, image: UInt8Array) -> UInt8Array:
        height, width = image.shape[:2]
        new_height, new_width = self._target(height, width)
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
