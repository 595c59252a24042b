"""What `loc` and `nara` share: a page image at a URL + a human transcript -> a page pair."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from olmrl import storage
from olmrl.arguments import positive, real
from olmrl.data.render import BadPage
from olmrl.markup import front_matter
from olmrl.markup.front_matter import PageResponse
from olmrl.mix import files, pairs
from olmrl.mix.download import Downloader
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.run import Outcome, Run, Skip, add_run_arguments, process


class Transcript(NamedTuple):
    """One page to fetch."""

    pair_id: str
    """Relative name of its pair."""
    url: str
    """URL of the image."""
    text: str
    """The transcription; empty for a blank page."""


class Unusable(NamedTuple):
    """A source row that gives no page."""

    place: str
    """Where it is: file and line, or an id."""
    reason: str
    """Why not."""


def add_transcript_arguments(parser: argparse.ArgumentParser, *, tries: int) -> None:
    """Options of `loc` and `nara`."""
    parser.add_argument("--input-dir", required=True, help="folder with the source files")
    parser.add_argument("--output-dir", required=True, help="folder for the page pairs")
    parser.add_argument(
        "--raw", action="store_true", help="write transcripts without front matter, as olmocr does"
    )
    parser.add_argument("--language", help="two-letter code for the front matter (default null)")
    parser.add_argument(
        "--rate", type=real(0, above=True), default=2.0, help="requests per second to one host"
    )
    parser.add_argument("--tries", type=positive, default=tries, help="tries per image")
    parser.add_argument("--retry-wait", type=real(0), default=60.0, help="longest wait, in seconds")
    add_run_arguments(parser, workers=4)


def markdown_of(text: str, options: argparse.Namespace) -> str:
    """The markdown of a pair; its front matter says what holds for every scan, `clean` the rest."""
    body = text.replace("\r\n", "\n").strip()
    if options.raw:
        return body
    return front_matter.format(PageResponse(options.language, True, 0, False, False, body or None))


def build(verb: str, source: Iterable[Transcript | Unusable], options: argparse.Namespace) -> int:
    """Fetch and write all pages; returns the exit code.

    A page is done when its pair exists with this transcript, even if the journal was lost.
    """
    settings = {"input_dir": options.input_dir, "raw": options.raw, "language": options.language}
    fetch = Downloader(
        per_second=options.rate, tries=options.tries, longest_wait_s=options.retry_wait
    )
    with (
        Run(verb, options.output_dir, settings, state=options.state) as run,
        PdfPool(options.workers) as pool,
        fetch,
    ):

        def work(page: Transcript) -> Outcome:
            text = markdown_of(page.text, options)
            if present(options.output_dir, page.pair_id, text):
                return Outcome(facts={"pages": 1})
            image = fetch.get(page.url)
            try:
                pdf = pool.call("image_to_pdf", page.url, image)
            except BadPage as bad:
                raise Skip(str(bad)) from bad
            pairs.write(options.output_dir, page.pair_id, text, pdf)
            return Outcome(facts={"pages": 1, "downloaded_bytes": len(image)})

        process(run, pages_of(run, source), work, workers=options.workers)
    return run.end(options.input_dir, "transcript")


def pages_of(run: Run, source: Iterable[Transcript | Unusable]) -> Iterator[tuple[str, Transcript]]:
    """(key, page) of the usable rows; the others are recorded."""
    for row in source:
        if isinstance(row, Transcript):
            yield row.pair_id, row
        elif not run.finished(row.place):
            run.record(row.place, Outcome("skipped", row.reason))


def present(folder: str, pair_id: str, text: str) -> bool:
    """Whether the pair exists with exactly this text and a PDF."""
    base = files.join_inside(folder, pair_id)
    if not (storage.exists(base + ".md") and storage.exists(base + ".pdf")):
        return False
    return storage.read_text(base + ".md") == text
