"""What flows through a pipeline of steps, and what a step is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
from pydantic import ConfigDict

from olmrl.data.encoded import EncodedExample
from olmrl.data.page import PageSource
from olmrl.data.prompts import Order
from olmrl.markup.front_matter import PageResponse
from olmrl.types import EncodedPage, Int64Array, UInt8Array

Kind = Literal["transform", "filter", "augmentation"]

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
"""pydantic settings of every step: its fields are its parameters, unknown ones are errors."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One page pair on its way to an example; steps fill the fields in."""

    source: PageSource
    truth: PageResponse | None = None
    """Front matter and text of the .md file (FrontMatterParser)."""
    image: UInt8Array | None = None
    """[H, W, 3] pixels (PDFRenderer)."""
    anchor_text: str | None = None
    """Text of the PDF itself (StaticLengthDocumentAnchoring)."""
    instruction: str | None = None
    """What the model is asked (a prompt step)."""
    response: str | None = None
    """What it must answer (an output format)."""
    order: Order | None = None
    """Whether instruction or image comes first (InstructUserMessages)."""
    example: EncodedExample | None = None
    """Token ids and patches (Tokenizer)."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A good page that a step left out."""

    page_id: str
    pdf_path: str
    page_number: int
    step: str
    """Name of the step."""
    rule: str
    """Which of its rules, in a few words; the same words for every page it hits."""


class PageEncoder(Protocol):
    """The part of `data.encode.Encoder` that steps use."""

    plain_ids: Int64Array
    """Ids of ordinary tokens."""

    def chat(self, prompt: str, anchor: str | None = None, order: Order | None = None) -> str:
        """Chat text of an instruction and one image."""

    def encode_prompt(self, page_id: str, text: str, images: Sequence[UInt8Array]) -> EncodedPage:
        """Encode chat text with its images."""

    def encode_example(self, page: EncodedPage, response: str) -> EncodedExample:
        """Join a prompt with its answer."""


@dataclass(frozen=True, slots=True)
class StepContext:
    """What a step may use beside the sample."""

    random: np.random.Generator
    """Drawn from (seed, epoch, place), so augmentation does not depend on who runs it."""
    encoder: PageEncoder | None = None
    """Needed by Tokenizer and RandomTokenFlipper."""

    def needed_encoder(self) -> PageEncoder:
        """The encoder; a pipeline that tokenizes must be given one."""
        assert self.encoder is not None, "a pipeline that tokenizes needs an encoder"
        return self.encoder


class Step(ABC):
    """One step; a frozen dataclass whose fields are its parameters."""

    kind: ClassVar[Kind] = "transform"
    """Filters and augmentations are left out of evaluation sets that inherit their pipeline."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Fields of the sample that an earlier step must have set."""
    gives: ClassVar[tuple[str, ...]] = ()
    """Fields of the sample that it sets."""

    @abstractmethod
    def __call__(self, sample: Sample, context: StepContext) -> Sample | Dropped:
        """Return the next sample, or why the page is dropped.

        Raises:
            BadPage: the page cannot be used.
        """

    def load(self) -> None:  # noqa: B027  (most steps load nothing)
        """Load prompts and packages, so that a missing one shows before any page is read.

        Raises:
            ValueError: a prompt or a package is missing.
        """


def dropped(sample: Sample, step: Step, rule: str) -> Dropped:
    """Drop a sample for a reason."""
    source = sample.source
    return Dropped(source.page_id, source.pdf_path, source.page_number, type(step).__name__, rule)
