"""What `olmrl read` does: find, count, read, write, and say how it went."""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from olmrl import storage
from olmrl.data.page import PageSource
from olmrl.data.render import BadPage, UnreadPage
from olmrl.markup import front_matter
from olmrl.mix import files
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.progress import ProgressDisplay
from olmrl.progress import waiting
from olmrl.read.backend import Backend, HowToRead, Item, read_items
from olmrl.read.book import BAD_PAGES, Book
from olmrl.read.documents import Document, find_documents
from olmrl.read.opening import make_job, opened
from olmrl.read.output import sound
from olmrl.read.settling import settle
from olmrl.read.tally import Speed

SUMMARY = "summary.json"
_SHOWN = 5
"""Problems shown on the console."""


def run(options: argparse.Namespace) -> int:
    """Read the documents; returns the exit code, 1 if pages failed.

    Raises:
        ValueError: the model or a document cannot be found, or no page can be read.
    """
    show = ProgressDisplay("read", None)
    try:
        documents = find_documents(options.pdfs)
        job = make_job(options, show.say)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        book = Book(options.out, job.settings, options.format, now)
        try:
            show.say(f"PDFs: {len(documents)}; {job.described()}")
            speed = Speed(0, 0, 0.0)
            if book.unknown(documents) or any(map(book.missing, documents)):
                server = options.base_url
                with ExitStack() as stack:
                    with waiting(f"asking {server}" if server else "starting Ray and engines"):
                        backend = stack.enter_context(opened(job, options, show.say))
                        _count(book, documents, backend)
                    pdfs = stack.enter_context(PdfPool(1))
                    chosen = _StandIn(options.fallback, pdfs)
                    items = _missing(book, documents)
                    speed = _read(book, items, backend, job.how, chosen, show)
            book.finish()
            _tell(book, speed, options, show)
        finally:
            book.close()
    finally:
        show.close()
    if book.failed:
        return 1
    if not book.counts["read"] + book.counts["fallback"]:
        reasons = storage.join(options.out, BAD_PAGES)
        raise ValueError(f"{', '.join(options.pdfs)}: no usable page in it; reasons: {reasons}")
    return 0


def _count(book: Book, documents: list[Document], backend: Backend) -> None:
    """Note how many pages each new document has."""
    fresh = book.unknown(documents)
    if not fresh:
        return
    for document, found in zip(fresh, backend.count([d.path for d in fresh]), strict=True):
        if isinstance(found, UnreadPage):
            book.skip(document, found.reason)
        elif isinstance(found, BadPage):
            book.open(document, 0, found.reason)
        else:
            book.open(document, found)


def _missing(book: Book, documents: list[Document]) -> dict[str, tuple[Document, Item]]:
    """Pages to read, by name."""
    found = {}
    for document in documents:
        for number in book.missing(document):
            name = f"{document.name}::{number}"
            found[name] = document, Item(name, PageSource(name, document.path, number))
    return found


class _StandIn:
    """What stands for a page without a whole answer."""

    def __init__(self, choice: str, pdfs: PdfPool) -> None:
        self._choice = choice
        self._pdfs = pdfs

    def of(self, source: PageSource) -> Callable[[str], str | None]:
        """For one page: from its last answer to its text."""
        if self._choice == "answer":
            return front_matter.strip
        if self._choice == "empty":
            return lambda answer: None
        return lambda answer: self._text_layer(source)

    def _text_layer(self, source: PageSource) -> str | None:
        try:
            return sound(self._pdfs.call("page_text", source.pdf_path, source.page_number))
        except BadPage:
            return None  # drawn, but its text layer is damaged: a page without text


def _read(
    book: Book,
    wanted: dict[str, tuple[Document, Item]],
    backend: Backend,
    how: HowToRead,
    stand_in: _StandIn,
    show: ProgressDisplay,
) -> Speed:
    show.expect(len(wanted))
    started = time.monotonic()
    speed = Speed(0, 0, 0.0)
    for name, outcome in read_items(backend, [item for _, item in wanted.values()], how):
        document, item = wanted[name]
        number = item.source.page_number
        page = settle(number, outcome, backend.usage, stand_in.of(item.source))
        book.add(document.name, page)
        seconds = time.monotonic() - started
        speed = Speed(speed.pages + 1, speed.tokens + page.tokens, seconds)
        show.show(
            {"done": speed.pages - book.failed, "failed": book.failed},
            {"tokens": speed.tokens, "pages_per_hour": 3600 * speed.pages_per_s},
        )
    return speed


def _tell(book: Book, speed: Speed, options: argparse.Namespace, show: ProgressDisplay) -> None:
    """Say how it went, and write it down."""
    counts, problems = book.counts, book.problems()
    lost = f" and {book.unreadable} that cannot be opened" if book.unreadable else ""
    show.say(
        f"{book.documents} documents{lost}: {counts['read']} pages read, "
        f"{counts['fallback']} without a whole answer, {counts['bad']} bad, {book.failed} failed; "
        f"{book.written} documents written to {options.out}"
    )
    if speed.pages:
        show.say(speed.described(options.price_per_hour))
    for row in problems[:_SHOWN]:
        page = f", page {row['page']}" if row["page"] else ""
        show.say(f"{row['kind']}: {row['path']}{page}: {row['reason']}")
    if len(problems) > _SHOWN:
        show.say(f"{len(problems)} in all: {storage.join(options.out, BAD_PAGES)}")
    if book.failed:
        show.say("the same command tries the failed ones again")
    value: dict[str, Any] = {
        "documents": book.documents,
        "unreadable": book.unreadable,
        "pages": {kind: counts[kind] for kind in ("read", "fallback", "bad")},
        "failed": book.failed,
        "tokens": dict(book.tokens),
        "this_call": {
            "pages": speed.pages,
            "seconds": round(speed.seconds, 1),
            "pages_per_s": round(speed.pages_per_s, 3),
        },
    }
    if options.price_per_hour is not None:
        cost = speed.usd_per_1000_pages(options.price_per_hour)
        value["this_call"]["usd_per_1000_pages"] = None if cost is None else round(cost, 4)
    files.write_json(storage.join(options.out, SUMMARY), value)
