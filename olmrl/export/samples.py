"""Pages with transcriptions, for calibration, error reports and parity checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from olmrl import storage
from olmrl.checkpoint.manifest import CheckpointError
from olmrl.data.bad_page import BadPage
from olmrl.data.draw import draw_pages
from olmrl.data.encode import Encoder, EncoderSpec
from olmrl.data.page import load_page, scan_bench, scan_pairs
from olmrl.types import EncodedPage, Int64Array, RenderedPage


@dataclass(frozen=True, slots=True)
class CalibrationPages:
    """Pages that calibrate and judge a quantised model."""

    folder: str
    """Bench folder or folder of page pairs, with reference transcriptions."""
    limit: int = 16
    """Pages used."""
    longest_side: int = 1288
    """Pixels of the longer side."""
    max_tokens: int = 1024
    """Tokens of each transcription."""
    prompt: str = "olmrl-v1"
    """Prompt name."""


@dataclass(frozen=True, slots=True)
class PageTokens:
    """A page and the tokens of a transcription of it."""

    prompt: EncodedPage
    response_ids: Int64Array
    """[R] the transcription, with the end token unless truncated."""


def load_pages(
    folder: str, limit: int, longest_side: int, say: Callable[[str], None] = lambda line: None
) -> list[RenderedPage]:
    """Render a sample of a bench folder or a folder of page pairs, always the same.

    Args:
        folder: Which.
        limit: Most pages.
        longest_side: Pixels.
        say: Is told of bad pages, which are left out.

    Raises:
        ValueError: it is neither, or every page is bad.
    """
    is_bench = storage.exists(storage.join(folder, "pdfs"))
    sources = scan_bench(folder) if is_bench else scan_pairs(folder).sources
    drawn = draw_pages(sources, limit, seed=0)
    good: list[RenderedPage] = []
    bad: list[BadPage] = []
    for source in drawn:
        try:
            good.append(load_page(source, longest_side))
        except BadPage as error:
            bad.append(error)
    if drawn and not good:
        raise CheckpointError(f"{folder}: no page can be used; the first: {bad[0]}")
    for page in bad:
        say(f"left out: {page}")
    if bad:
        say(f"{len(bad)} of {len(drawn)} pages left out")
    return good


def load_samples(
    pages: CalibrationPages, model: str, say: Callable[[str], None] = lambda line: None
) -> list[PageTokens]:
    """Load pages with their reference transcriptions, truncated to `max_tokens`.

    Args:
        pages: Which pages.
        model: Model folder, whose processor encodes them.
        say: Is told of bad pages, which are left out.

    Raises:
        ValueError: none of the drawn pages has a reference.
    """
    encoder = Encoder(EncoderSpec(model, prompt=pages.prompt))
    samples = [
        PageTokens(
            encoder.encode_page(rendered),
            encoder.encode_response(rendered.page.reference)[: pages.max_tokens],
        )
        for rendered in load_pages(pages.folder, pages.limit, pages.longest_side, say)
        if rendered.page.reference is not None
    ]
    if not samples:
        raise CheckpointError(
            f"{pages.folder}: its first {pages.limit} pages have no reference transcription"
        )
    return samples
