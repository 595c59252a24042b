"""Batch results + PDFs -> page pairs.

Every good answer becomes OUTPUT/<custom_id>.md with front matter, next to a copy of its PDF.
Answers that are truncated, refused, malformed or missing are listed in OUTPUT/retry.jsonl for
`openai-build --only`. The exit code is 1 as long as there are such answers.
"""

# See docs/formats.md#labelling-answers

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
from typing import Any, NamedTuple

from olmrl import storage
from olmrl.data.render import BadPage
from olmrl.markup import front_matter
from olmrl.mix import files, pairs
from olmrl.mix.openai_results import Answer, index_answers, read_answer
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.responses import BadAnswer, Turn, answer_object, from_answer
from olmrl.mix.run import Fail, Outcome, Run, add_run_arguments, process
from olmrl.suffixes import cut_suffix

_PAGE_ID = re.compile(r"(.+\.pdf)-(\d+)", re.DOTALL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "results", help="folder with result *.jsonl or *.json (openai-run's output)"
    )
    parser.add_argument("pdfs", help="folder of the PDFs that were sent")
    parser.add_argument("output", help="folder for the page pairs")
    parser.add_argument("--index", help="openai-build's index folder, for ids that are not paths")
    parser.add_argument(
        "--rotation",
        choices=("clockwise", "counter-clockwise"),
        default="clockwise",
        help="how the model counted rotation_correction (the schema says clockwise)",
    )
    parser.add_argument(
        "--sources-anywhere",
        action="store_true",
        help="accept ids `PATH.pdf-PAGE` with a PDF outside PDFS (buildsilver's results)",
    )
    add_run_arguments(parser, workers=8)


class Source(NamedTuple):
    """Where the page of an answer comes from, and where its pair goes."""

    pdf: str
    """Path of the PDF."""
    page: int | None
    """Page to extract; None: the PDF is the page."""
    pair_id: str
    """Relative name of the pair."""


def run(options: argparse.Namespace) -> int:
    """Collect the results; see the module."""
    if not storage.is_remote(options.pdfs) and not os.path.isdir(options.pdfs):
        raise ValueError(f"{options.pdfs}: no such folder")
    paths = [p for end in (".jsonl", ".json") for p in files.listing(options.results, end)]
    paths = [p for p in paths if not files.relative(p, options.results).startswith("errors/")]
    if not paths:
        raise ValueError(f"{options.results}: no result files (*.jsonl, *.json) below it")
    settings = {"results": options.results, "pdfs": options.pdfs, "rotation": options.rotation}
    with contextlib.ExitStack() as stack:
        answers = index_answers([stack.enter_context(files.fetched(p)) for p in paths])
        total = len(answers)
        verb = stack.enter_context(
            Run("openai-collect", options.output, settings, state=options.state, total=total)
        )
        pool = stack.enter_context(PdfPool(options.workers))
        collector = Collector(options, read_index(options.index), pool)
        process(verb, sorted(answers.items()), collector.collect, workers=options.workers)
        rows = [
            {"custom_id": key, "reason": reason}
            for key, (status, reason, _) in sorted(verb.problems.items())
            if status == "failed"
        ]
        lines = (pairs.json_line(row) for row in rows)
        files.write_lines(storage.join(options.output, "retry.jsonl"), lines)
    return verb.end(options.results, "answer (*.jsonl, *.json)")


def read_index(folder: str | None) -> dict[str, str]:
    """{custom id: relative PDF} from openai-build's index files."""
    if folder is None:
        return {}
    rows = (row for path in files.listing(folder, ".jsonl") for _, row in storage.read_jsonl(path))
    return {row["custom_id"]: row["pdf"] for row in rows}


class Collector:
    """Turns answers into pairs.

    Args:
        options: The verb's options.
        index: {custom id: relative PDF}.
        pool: Reads PDFs.
    """

    def __init__(self, options: argparse.Namespace, index: dict[str, str], pool: PdfPool) -> None:
        self.options = options
        self.index = index
        self.pool = pool
        self.turn: Turn = options.rotation

    def collect(self, answer: Answer) -> Outcome:
        """Write the pair of one answer."""
        row = json.loads(read_answer(answer))
        try:
            response = from_answer(answer_object(good_body(row)), self.turn)
            source = self.source(row["custom_id"])
            if source.page is None:
                pdf = storage.read_bytes(source.pdf)
            else:
                cut = self.pool.call("cut_pages", source.pdf, (source.page,))
                pdf = cut[source.page]
        except (BadAnswer, BadPage) as bad:
            raise Fail(str(bad)) from bad
        except FileNotFoundError as error:
            raise Fail(f"its PDF is missing: {error.filename or error}") from error
        text = front_matter.format(response)
        pairs.write(self.options.output, source.pair_id, text, pdf)
        return Outcome(facts={"pages": 1, "blank": int(response.natural_text is None)})

    def source(self, custom_id: str) -> Source:
        """Find the PDF of a custom id; ids are untrusted and cannot lead outside the folders.

        Raises:
            Fail: the id is unsafe, or no PDF matches it.
        """
        known = self.index.get(custom_id)
        candidates: list[tuple[str, int | None]] = []
        if known is not None:
            candidates.append((known, None))
        else:
            match = _PAGE_ID.fullmatch(custom_id)
            if match:
                candidates.append((match[1], int(match[2])))
            candidates += [(custom_id + ".pdf", None), (custom_id + ".PDF", None)]
            # olmocr drops every ".pdf" of a path: `a.pdf-3.pdf` was sent as `a-3`
            stem, dash, page = custom_id.rpartition("-")
            if dash and page.isdigit():
                candidates.append((f"{stem}.pdf-{page}.pdf", None))
        for name, page_number in candidates:
            found = self._existing(name, page_number)
            if found is not None:
                return found
        raise Fail(f"no PDF below {self.options.pdfs} matches the custom_id {custom_id!r}")

    def _existing(self, name: str, page: int | None) -> Source | None:
        outside = "://" in name or name.startswith("/")
        if outside and page is not None and self.options.sources_anywhere:
            return Source(name, page, f"{files.slug(name)}-{page}")
        try:
            path = files.join_inside(self.options.pdfs, name)
            pair_id = files.safe_relative(cut_suffix(name, ".pdf"))
        except ValueError as error:
            raise Fail(f"unsafe custom_id: {error}") from error
        if not storage.exists(path):
            return None
        return Source(path, page, pair_id if page is None else f"{pair_id}-{page}")


def good_body(row: Any) -> Any:
    """The completion in a result row.

    Raises:
        BadAnswer: the request failed.
    """
    response = row.get("response")
    if not isinstance(response, dict) or response.get("status_code") != 200:
        status = response.get("status_code") if isinstance(response, dict) else None
        error = row.get("error") or (response or {}).get("body")
        raise BadAnswer("http", f"status {status}, {json.dumps(error)[:200]}")
    return response.get("body")
