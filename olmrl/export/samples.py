"""Pages with transcriptions, on which calibration, error reports and parity are measured."""

from __future__ import annotations

from dataclasses import dataclass

from olmrl import storage
from olmrl.checkpoint.manifest import CheckpointError
from olmrl.data.encode import Encoder
from olmrl.data.page import PageSource, load_page, scan_bench, scan_pairs
from olmrl.types import EncodedPage, Int64Array, RenderedPage


@dataclass(frozen=True, slots=True)
class Sample:
    """A page and its tokens to be judged."""

    prompt: EncodedPage
    response_ids: Int64Array
    """[R] the transcription, with the end token unless truncated."""


def find_pages(folder: str) -> list[PageSource]:
    """List the pages of a bench folder or of a folder of page pairs.

    Raises:
        ValueError: it is neither.
    """
    if storage.exists(storage.join(folder, "pdfs")):
        return scan_bench(folder)
    return scan_pairs(folder).sources


def load_pages(folder: str, limit: int, longest_side: int) -> list[RenderedPage]:
    """Render the first pages of a folder.

    Raises:
        ValueError: there are no pages, or one cannot be read.
    """
    return [load_page(source, longest_side) for source in find_pages(folder)[:limit]]


def load_samples(
    folder: str, encoder: Encoder, *, limit: int, longest_side: int, max_tokens: int
) -> list[Sample]:
    """Load pages with their reference transcriptions, truncated to `max_tokens`.

    Raises:
        ValueError: none of the first `limit` pages has a reference.
    """
    samples = [
        Sample(
            encoder.encode_page(rendered),
            encoder.encode_response(rendered.page.reference)[:max_tokens],
        )
        for rendered in load_pages(folder, limit, longest_side)
        if rendered.page.reference is not None
    ]
    if not samples:
        raise CheckpointError(f"{folder}: its first {limit} pages have no reference transcription")
    return samples
