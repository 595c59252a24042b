"""What data tasks hand to the rest of a run: light notes, heavy payloads.

A payload is a block (`payload`) that stays in Ray's object store and is fetched by reference where
it is used. Nothing here needs Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from olmrl.metrics import Mean, Measurements
from olmrl.types import Int64Array

IMAGE_CALLS = "data/image_calls_per_page"
"""Metric: how often a page's image is cut into patches, over all processes; should be 1."""
PAGE_BYTES = "data/page_bytes"
"""Metric: bytes of a page's block, which engines and learner ranks fetch."""


class Made(NamedTuple):
    """What a task makes of an item; both parts are picklable."""

    note: Any
    """Light: comes to the consumer by value."""
    payload: Any = None
    """Heavy: stays in the object store, and the consumer gets a reference. None: there is none."""


@dataclass(frozen=True, slots=True)
class StreamItem:
    """An item of a stream, with its exact place."""

    epoch: int
    index: int
    """Place in the epoch's order."""
    note: Any
    """The light part of what the work made."""
    payload: Any
    """ObjectRef of the payload's block (`payload.unpack_block` reads it); None: there is none."""
    payload_bytes: int
    image_calls: int
    """Images that were cut into patches for it."""


@dataclass(frozen=True, slots=True)
class ExampleNote:
    """The note of an SFT example, whose arrays stay in the object store."""

    page_id: str
    prompt_tokens: int
    response_tokens: int
    image_grid_thw: Int64Array
    """[I, 3]"""

    @property
    def num_tokens(self) -> int:
        """Prompt and response."""
        return self.prompt_tokens + self.response_tokens


def measure_pages(items: Sequence[StreamItem]) -> Measurements:
    """Bytes of pages, and how often their images were cut into patches."""
    count = float(len(items))
    return {
        PAGE_BYTES: Mean(float(sum(item.payload_bytes for item in items)), count),
        IMAGE_CALLS: Mean(float(sum(item.image_calls for item in items)), count),
    }
