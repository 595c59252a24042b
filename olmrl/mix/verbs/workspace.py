"""Results of the olmOCR pipeline (a workspace) -> page pairs.

Every page of WORKSPACE/results/*.jsonl becomes OUTPUT/<id[:4]>/<id>_page<N>.{md,pdf}. Sources may
be local, remote, or members of a tarball (`x.tar.gz::member.pdf`). Pages for which the pipeline
fell back to plain text extraction are left out. It only records how many there were, not which
ones, so in a document that has any, all pages without a language are left out.
"""

# See docs/formats.md#workspace-results

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from olmrl import storage
from olmrl.arguments import positive
from olmrl.data.render import BadPage
from olmrl.markup import front_matter
from olmrl.markup.front_matter import PageResponse
from olmrl.mix import files, hub_layout, pairs
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.responses import language
from olmrl.mix.run import Fail, Outcome, Run, Skip, add_run_arguments, lost, process
from olmrl.scratch import Scratch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("workspace", help="olmOCR workspace, local or s3://")
    parser.add_argument("output", help="folder for the page pairs")
    parser.add_argument("--max-examples", type=positive, help="use at most this many documents")
    parser.add_argument("--source-root", help="folder of relative sources (default WORKSPACE)")
    parser.add_argument("--keep-fallback", action="store_true", help="keep fallback pages")
    add_run_arguments(parser, workers=4)


class Line(NamedTuple):
    """One line of a results file."""

    place: str
    """`file:line`, its key."""
    text: str
    """Unparsed JSON."""


class PageSpan(NamedTuple):
    """One page of a document."""

    number: int
    """1-based page of the PDF."""
    response: PageResponse
    """What the pipeline said about it."""


def run(options: argparse.Namespace) -> int:
    """Harvest the workspace; see the module."""
    settings = {k: getattr(options, k) for k in ("workspace", "max_examples", "keep_fallback")}
    results = storage.join(options.workspace, "results")
    found = files.listing(results, ".jsonl")
    if not found:
        raise ValueError(f"{results}: contains no results (*.jsonl)")
    with contextlib.ExitStack() as stack:
        verb = stack.enter_context(Run("workspace", options.output, settings, state=options.state))
        pool = stack.enter_context(PdfPool(options.workers))
        scratch = stack.enter_context(Scratch("mix"))
        harvest = Harvest(options, pool, scratch)
        lines = islice(read_lines(found, options.workspace), options.max_examples)
        process(verb, ((line.place, line) for line in lines), harvest.work, workers=options.workers)
    return verb.end(results, "page (documents in *.jsonl)")


def read_lines(paths: list[str], root: str) -> Iterator[Line]:
    """All non-blank lines of the results, in order."""
    for path in paths:
        for number, text in enumerate(storage.read_bytes(path).split(b"\n"), start=1):
            if text.strip():
                place = f"{files.relative(path, root)}:{number}"
                yield Line(place, text.decode("utf-8", "replace"))


class Harvest:
    """Writes the pairs of documents.

    Args:
        options: The verb's options.
        pool: Extracts pages.
        scratch: Local folder for unpacked tarballs.
    """

    def __init__(self, options: argparse.Namespace, pool: PdfPool, scratch: str) -> None:
        self.options = options
        self.pool = pool
        self.scratch = scratch
        self.locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def work(self, line: Line) -> Outcome:
        """Write all pages of one document."""
        document = parse_document(line.text)
        pages = read_pages(document)
        fallback = int(document["metadata"].get("total-fallback-pages") or 0)
        kept = pages
        if fallback and not self.options.keep_fallback:
            kept = [page for page in pages if page.response.primary_language is not None]
        if kept:
            source = self.locate(str(document["metadata"].get("Source-File") or ""))
            numbers = tuple(page.number for page in kept)
            try:
                cut = self.pool.call("cut_pages", source, numbers)
            except BadPage as bad:
                return lost(bad)._replace(reason=str(bad))
            name = files.slug(str(document["id"]))
            for page in kept:
                pair_id = f"{name[:4] or 'misc'}/{name}_page{page.number}"
                text = front_matter.format(page.response)
                pairs.write(self.options.output, pair_id, text, cut[page.number])
        blank = sum(page.response.natural_text is None for page in kept)
        left_out = len(pages) - len(kept)
        return Outcome(facts={"pages": len(kept), "blank": blank, "fallback_dropped": left_out})

    def locate(self, source: str) -> str:
        """Path of a document's PDF; a tarball is unpacked once.

        Raises:
            Skip: no source, or it is missing.
        """
        container, mark, member = source.partition("::")
        if not source:
            raise Skip("the document has no metadata.Source-File")
        path = container
        if not storage.is_remote(container) and not os.path.isabs(container):
            path = storage.join(self.options.source_root or self.options.workspace, container)
        if not storage.exists(path):
            raise Fail(f"its source {path} is missing")
        return self.member(path, member) if mark else path

    def member(self, tarball: str, member: str) -> str:
        """Local path of an unpacked tarball member."""
        folder = os.path.join(self.scratch, hashlib.sha256(tarball.encode()).hexdigest()[:16])
        with self.locks[tarball]:
            if not os.path.isdir(folder):
                with files.fetched(tarball) as local:
                    try:
                        for _ in hub_layout.unpack(local, folder):
                            pass
                    except ValueError as error:
                        raise Fail(str(error)) from error
        try:
            path = files.join_inside(folder, member)
        except ValueError as error:
            raise Skip(str(error)) from error
        if not os.path.isfile(path):
            raise Skip(f"{tarball} has no usable member {member}")
        return path


def parse_document(text: str) -> dict[str, Any]:
    """One Dolma document.

    Raises:
        Skip: it is not one.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise Skip(f"not valid JSON ({error.msg})") from error
    if not isinstance(document, dict) or not isinstance(document.get("text"), str):
        raise Skip("not a document: no text")
    for key in ("metadata", "attributes"):
        if not isinstance(document.get(key), dict):
            raise Skip(f"not a document: {key} is not an object")
    if not document.get("id"):
        raise Skip("not a document: no id")
    return document


def read_pages(document: dict[str, Any]) -> list[PageSpan]:
    """The pages of a document, with each page's attributes.

    Raises:
        Skip: the spans do not fit the text, or an attribute has the wrong type.
    """
    attributes, text = document["attributes"], document["text"]
    pages = []
    for index, span in enumerate(attributes.get("pdf_page_numbers") or ()):
        if not (isinstance(span, list) and len(span) == 3 and all(type(x) is int for x in span)):
            raise Skip(f"pdf_page_numbers[{index}] is not [start, end, page]")
        start, end, number = span
        if not (0 <= start <= end <= len(text) and number >= 1):
            raise Skip(f"pdf_page_numbers[{index}] is {span}, the text has {len(text)} characters")
        try:
            response = PageResponse(
                primary_language=language(_at(attributes, "primary_language", index, None)),
                is_rotation_valid=_at(attributes, "is_rotation_valid", index, True),
                rotation_correction=_at(attributes, "rotation_correction", index, 0),
                is_table=_at(attributes, "is_table", index, False),
                is_diagram=_at(attributes, "is_diagram", index, False),
                natural_text=text[start:end].strip() or None,
            )
        except (ValueError, TypeError) as error:
            raise Skip(f"page {number}: {error}") from error
        pages.append(PageSpan(number, response))
    if not pages:
        raise Skip("no pages (attributes.pdf_page_numbers)")
    return pages


def _at(attributes: dict[str, Any], name: str, index: int, default: Any) -> Any:
    values = attributes.get(name)
    if not isinstance(values, list) or index >= len(values) or values[index] is None:
        return default
    return values[index]
