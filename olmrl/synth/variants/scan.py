"""A clean page as a scanner or a copier leaves it: own effects in numpy and PIL, seeded.

In the order in which they happen to paper: the back shines through, ink fades, the sheet lies
askew, paper has a tone and a shade, the lens blurs, the sensor is noisy, a fax knows two colours,
JPEG loses the rest. Whether the text survived is not asked here (`proof.ink` reads it).
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from olmrl.types import UInt8Array

Floats = np.ndarray
"""[H, W, C] float32, 0 (ink) to 1 (paper)."""


@dataclass(frozen=True)
class Scanned:
    """A damaged page."""

    jpeg: bytes
    back: tuple[float, float, float, float, float, float]
    """For each pixel (x, y) of the clean page, where it lies now: x' = a x + b y + c, y' = d x +
    e y + f, as PIL's affine transform takes it to undo the damage's geometry."""
    effects: tuple[str, ...]
    """What was done, in order."""


def scan(
    page: UInt8Array, reverse: UInt8Array, dpi: int, rng: np.random.Generator, strength: float
) -> Scanned:
    """Damage a page.

    Args:
        page: [H, W, 3] RGB of the clean page.
        reverse: [H, W, 3] of what is printed on its back.
        dpi: Pixels per inch; blur grows with it.
        rng: Draws effects and their strengths.
        strength: Factor on all of them, 0..1.
    """
    fine = dpi / 150
    colourful = int((page.max(axis=2) - page.min(axis=2)).max()) > 24
    shown = page if colourful else page[:, :, :1]
    image = shown.astype(np.float32) / 255
    effects: list[str] = []
    if rng.random() < 0.5:
        image = _bleed(image, reverse, fine, rng.uniform(0.05, 0.2) * strength)
        effects.append("bleed-through")
    if rng.random() < 0.7:
        field = _field(image.shape, rng, 6)
        image = 1 - (1 - image) * (1 - rng.uniform(0.1, 0.4) * strength * field)
        effects.append("fading")
    image, back = _askew(image, rng, strength)
    effects.append("skew")
    image = image * _paper(image.shape, rng, strength, tinted=rng.random() < 0.5)
    effects.append("paper")
    if rng.random() < 0.5:
        image = image * _shadow(image.shape, rng, strength)
        effects.append("shadow")
    image = _blurred(image, rng.uniform(0.3, 1.1) * strength * fine)
    image = image + rng.normal(0, rng.uniform(0.008, 0.035) * strength, (*image.shape[:2], 1))
    effects += ["blur", "noise"]
    if rng.random() < 0.5:
        _specks(image, rng, int(rng.integers(10, 80) * strength), fine)
        effects.append("specks")
    if rng.random() < 0.12:
        image = _fax(image, fine)
        effects.append("fax")
    quality = int(90 - rng.uniform(5, 55) * strength)
    effects.append(f"jpeg {quality}")
    return Scanned(jpeg_of(_bytes(image), quality), back, tuple(effects))


def jpeg_of(image: UInt8Array, quality: int) -> bytes:
    """JPEG of [H, W, 1 or 3] pixels."""
    out = io.BytesIO()
    squeezed = image[:, :, 0] if image.shape[2] == 1 else image
    Image.fromarray(squeezed).save(out, "JPEG", quality=quality)
    return out.getvalue()


def _bytes(image: Floats) -> UInt8Array:
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _blurred(image: Floats, radius: float) -> Floats:
    """Gaussian blur, channel by channel."""
    layers = [
        np.asarray(Image.fromarray(layer).filter(ImageFilter.GaussianBlur(radius)))
        for layer in np.moveaxis(_bytes(image), 2, 0)
    ]
    return np.stack(layers, axis=2).astype(np.float32) / 255


def _field(shape: tuple[int, ...], rng: np.random.Generator, cells: int) -> Floats:
    """[H, W, 1] of slow waves, 0..1."""
    coarse = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
    fine = coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(fine, np.float32)[:, :, None] / 255


def _bleed(image: Floats, reverse: UInt8Array, fine: float, share: float) -> Floats:
    """The back of the sheet, mirrored and blurred, `share` of its ink."""
    mirrored = reverse[:, ::-1].mean(axis=2, keepdims=True).astype(np.float32) / 255
    size = (image.shape[1], image.shape[0])
    fitted = Image.fromarray(_bytes(mirrored)[:, :, 0]).resize(size)
    blurred = _blurred(np.asarray(fitted, np.float32)[:, :, None] / 255, 2.0 * fine)
    return image * (1 - share * (1 - blurred))


def _askew(
    image: Floats, rng: np.random.Generator, strength: float
) -> tuple[Floats, tuple[float, float, float, float, float, float]]:
    """Turned by a degree or so, a little larger or smaller, shifted; white comes in."""
    angle = np.deg2rad(np.clip(rng.normal(0, 0.7), -1.8, 1.8) * strength)
    scale = 1 + rng.uniform(-0.02, 0.01) * strength
    height, width = image.shape[:2]
    shift = rng.uniform(-0.01, 0.01, 2) * strength * (width, height)
    centre = np.array([width, height]) / 2
    forth = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    to = centre + shift - forth @ centre
    inverse = np.linalg.inv(forth)
    source = -inverse @ to
    # PIL asks where each pixel of the result comes from
    matrix = (*inverse[0], source[0], *inverse[1], source[1])
    turned = [
        np.asarray(
            Image.fromarray(layer).transform(
                (width, height),
                Image.Transform.AFFINE,
                tuple(map(float, matrix)),
                Image.Resampling.BICUBIC,
                fillcolor=255,
            )
        )
        for layer in np.moveaxis(_bytes(image), 2, 0)
    ]
    a, b, c, d = (float(value) for value in forth.ravel())
    back = (a, b, float(to[0]), c, d, float(to[1]))
    return np.stack(turned, axis=2).astype(np.float32) / 255, back


def _paper(
    shape: tuple[int, ...], rng: np.random.Generator, strength: float, *, tinted: bool
) -> Floats:
    """Tone, slow shade and grain of paper, as a factor."""
    tone = 1 - rng.uniform(0.02, 0.14) * strength
    shade = 1 - rng.uniform(0.02, 0.08) * strength * _field(shape, rng, 4)
    grain = 1 - rng.uniform(0.005, 0.03) * strength * _field(shape, rng, max(2, shape[1] // 4))
    tint = np.array([1, 1 - 0.03 * strength, 1 - rng.uniform(0.05, 0.15) * strength])
    return tone * shade * grain * (tint if tinted else 1.0)


def _shadow(shape: tuple[int, ...], rng: np.random.Generator, strength: float) -> Floats:
    """A gutter or a lid that does not close: dark towards one edge, as a factor."""
    side = int(rng.integers(4))
    length = shape[1] if side < 2 else shape[0]
    reach = rng.uniform(0.04, 0.15) * length
    depth = rng.uniform(0.2, 0.55) * strength
    dark = 1 - depth * np.exp(-np.arange(length, dtype=np.float32) / reach)
    dark = dark[::-1] if side % 2 else dark
    return dark[None, :, None] if side < 2 else dark[:, None, None]  # type: ignore[no-any-return]


def _specks(image: Floats, rng: np.random.Generator, count: int, fine: float) -> None:
    """Dust: dots of a pixel or two, dark or light."""
    height, width = image.shape[:2]
    for _ in range(count):
        size = max(1, round(rng.uniform(0.5, 1.6) * fine))
        y, x = rng.integers(height - size), rng.integers(width - size)
        image[y : y + size, x : x + size] = rng.choice([0.2, 0.2, 1.0])


def _fax(image: Floats, fine: float) -> Floats:
    """Black and white, by the brightness around each pixel."""
    grey = image.mean(axis=2, keepdims=True)
    around = _blurred(grey, 12 * fine)
    return np.where(grey < around - 0.12, np.float32(0.05), np.float32(0.98))
