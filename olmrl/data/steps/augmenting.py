"""Steps that disturb the page image (docs/formats.md#data-steps)."""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from pydantic.dataclasses import dataclass

from olmrl.config.schema import Fraction
from olmrl.data.steps.sample import STRICT, Kind, Sample, Step, StepContext
from olmrl.types import UInt8Array

_WHITE = (255, 255, 255)
_KEPT_CONTRAST = 0.5
"""Share of a page's contrast (standard deviation of its pixels) that an effect must leave."""


@dataclass(frozen=True, config=STRICT)
class RotationAugmentation(Step):
    """Turns the page by 90, 180 or 270 degrees counter-clockwise, and labels what undoes it.

    The label is the counter-clockwise turn that makes the page upright again, which is how the
    released models are read (docs/formats.md#rotation).
    """

    kind: ClassVar[Kind] = "augmentation"
    needs: ClassVar[tuple[str, ...]] = ("image", "truth")

    probability: Fraction = 0.5
    """Chance per page."""

    def __call__(self, sample: Sample, context: StepContext) -> Sample:
        """Change `image` and `truth` together."""
        if sample.image is None or sample.truth is None:
            return sample
        if context.random.random() >= self.probability:
            return sample
        quarters = int(context.random.integers(1, 4))
        correction = (sample.truth.rotation_correction - 90 * quarters) % 360
        return replace(
            sample,
            image=np.ascontiguousarray(np.rot90(sample.image, quarters)),
            truth=replace(
                sample.truth, is_rotation_valid=correction == 0, rotation_correction=correction
            ),
        )


@dataclass(frozen=True, config=STRICT)
class AugraphyBasicAugmentations(Step):
    """Makes the page look printed and scanned: a slight tilt, worn ink, brightness or JPEG."""

    kind: ClassVar[Kind] = "augmentation"
    needs: ClassVar[tuple[str, ...]] = ("image",)

    probability: Fraction = 0.5
    """Chance per page."""

    def __call__(self, sample: Sample, context: StepContext) -> Sample:
        """Change `image`; its size stays."""
        augraphy = _augraphy()  # before anything is seeded: its import draws random numbers
        if sample.image is None or context.random.random() >= self.probability:
            return sample
        image = sample.image
        if context.random.random() < 0.5:
            image = _tilt(image, context.random)
        with _global_seed(int(context.random.integers(2**31))):
            worn = np.asarray(_scanner(augraphy)(image), np.uint8)
        # Some effects add a margin, some rub the text out (letterpress, on small pages): such a
        # page would no longer fit its labels.
        fits = worn.shape == image.shape and worn.std() >= _KEPT_CONTRAST * image.std()
        return replace(sample, image=worn if fits else image)

    def load(self) -> None:
        """Import augraphy.

        Raises:
            ValueError: it is not installed.
        """
        _augraphy()


def _tilt(image: UInt8Array, generator: np.random.Generator) -> UInt8Array:
    """Turn, scale and shift slightly around the center; white comes in at the edges."""
    angle = np.deg2rad(np.clip(generator.normal(), -3, 3))
    scale = generator.uniform(0.95, 1.05)
    height, width = image.shape[:2]
    shift = generator.uniform(-0.02, 0.02, 2) * (width, height)
    center = np.array([width, height]) / 2
    # PIL asks where each output pixel comes from: the inverse transform
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    inverse = np.array([[cosine, sine], [-sine, cosine]])
    offset = center - inverse @ (center + shift)
    matrix = (*inverse[0], offset[0], *inverse[1], offset[1])
    turned = Image.fromarray(image).transform(
        (width, height),
        Image.Transform.AFFINE,
        matrix,
        Image.Resampling.BICUBIC,
        fillcolor=_WHITE,
    )
    return np.asarray(turned)


def _augraphy() -> Any:
    try:
        return importlib.import_module("augraphy")
    except ImportError as error:
        raise ValueError("the package augraphy is not installed; install olmrl[augment]") from error


def _scanner(augraphy: Any) -> Any:
    """Augraphy's pipeline of one ink effect and one post-processing effect.

    Made anew for every page: `OneOf` chooses when it is made, not when it is called.
    """
    ink = augraphy.OneOf(
        [
            augraphy.InkBleed(p=1),
            augraphy.LowInkRandomLines(p=1),
            augraphy.LowInkPeriodicLines(p=1),
            augraphy.Letterpress(p=1),
        ],
        p=0.2,
    )
    post = augraphy.OneOf([augraphy.Brightness(p=0.2), augraphy.Jpeg(p=1)], p=1)
    return augraphy.AugraphyPipeline(ink_phase=[ink], paper_phase=[], post_phase=[post])


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seed the global generators that augraphy draws from, and restore them afterwards."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
