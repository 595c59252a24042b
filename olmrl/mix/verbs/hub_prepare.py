"""A Hugging Face data set (0225 or 1025 layout) -> page pairs for training.

Reads a local copy in place or downloads what the subset needs, unpacks the tarballs safely, and
writes DESTINATION/processed_<subset>_<split>/ with markdown and linked PDFs, urls.jsonl, and
extras.jsonl for fields that do not belong in the front matter.
"""

# See docs/formats.md#olmocr-mix-on-the-hub

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from olmrl import storage
from olmrl.arguments import positive
from olmrl.data.render import BadPage
from olmrl.mix import files, hub_layout
from olmrl.mix.hub_layout import Layout, Names
from olmrl.mix.hub_work import Places, Rows, piece
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.run import Fail, Outcome, Run, add_run_arguments, process
from olmrl.scratch import Scratch

ROWS = 1000
"""Table rows of one work item."""

CHILD_DEADLINE_S = 3600.0
"""Longest time in seconds for a tarball or a work item of the table."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "--dataset-path", default="allenai/olmOCR-mix-1025", help="hub id, or a local folder"
    )
    parser.add_argument("--revision", help="branch, tag or commit of the hub data set")
    parser.add_argument("--subset", help="e.g. 00_documents (0225: s2pdf or iabooks)")
    parser.add_argument("--split", required=True, help="train or eval (0225: also train_s2pdf ...)")
    parser.add_argument("--destination", required=True, help="folder, local or s3://")
    parser.add_argument("--layout", choices=("0225", "1025"), help="default: from the file names")
    parser.add_argument("--max-examples", type=positive, help="use at most this many rows")
    add_run_arguments(parser, workers=4)


def run(options: argparse.Namespace) -> int:
    """Prepare the pairs; see the module."""
    label = "_".join(part for part in (options.subset, options.split) if part)
    settings = {k: getattr(options, k) for k in ("dataset_path", "revision", "max_examples")}
    state = options.state or storage.join(
        options.destination, ".mix", "hub-prepare", files.slug(label)
    )
    remote = storage.is_remote(options.destination)
    with (
        Scratch("mix") as scratch,
        Run("hub-prepare", options.destination, settings, state=state) as verb,
    ):
        work = scratch if remote else os.path.abspath(options.destination)
        source = locate(options, os.path.join(work, "hugging_face"))
        layout = options.layout or detect(source)
        wanted = hub_layout.names(layout, options.subset, options.split)
        table = os.path.join(source, wanted.parquet)
        if not os.path.isfile(table):
            raise ValueError(f"{source}: does not contain {wanted.parquet}")
        processed = storage.join(options.destination, f"processed_{label}")
        extracted = os.path.join(work, "hugging_face", "pdf_tarballs", "extracted")
        places = Places(layout, extracted, processed, state)
        with PdfPool(options.workers, CHILD_DEADLINE_S) as pool:

            def unpack_one(path: str) -> Outcome:
                return in_child(pool, "unpack_tarball", path, places.extracted)

            def write_rows(rows: Rows) -> Outcome:
                return in_child(pool, "prepare_rows", rows.table, rows, places)

            balls = list(tarballs(source, wanted, remote))
            process(verb, balls, unpack_one, workers=options.workers)
            items = list(work_items(table, options.max_examples))
            process(verb, items, write_rows, workers=options.workers)
        merge(places, [key for key, _ in items])
    return verb.end(table, f"row (reasons: {storage.join(state, 'rows_skipped.txt')})")


def in_child(pool: PdfPool, function: str, path: str, *arguments: Any) -> Outcome:
    """Run a function of `hub_work` in a child; a crash fails the item."""
    try:
        outcome: Outcome = pool.call(f"olmrl.mix.hub_work:{function}", path, *arguments)
    except BadPage as bad:
        raise Fail(str(bad)) from bad
    return outcome


def locate(options: argparse.Namespace, target: str) -> str:
    """The local folder of the data set; a hub id is downloaded (interrupted downloads resume)."""
    path: str = options.dataset_path
    if os.path.isdir(path):
        return os.path.abspath(path)
    if path.count("/") != 1 or path.startswith((".", "/", "~")):
        raise ValueError(f"--dataset-path {path}: neither a local folder nor a hub id OWNER/NAME")
    layout: Layout = options.layout or ("0225" if path.endswith("-0225") else "1025")
    wanted = hub_layout.names(layout, options.subset, options.split)
    patterns = [wanted.parquet, f"pdf_tarballs/{wanted.tarballs}*.tar.gz", "README.md", "*.json"]
    try:
        return huggingface_hub.snapshot_download(
            path,
            repo_type="dataset",
            revision=options.revision,
            local_dir=target,
            allow_patterns=patterns,
        )
    except RepositoryNotFoundError as error:
        raise ValueError(f"{path}: no such data set on the hub (or no access to it)") from error
    except HfHubHTTPError as error:
        raise ValueError(f"{path}: the hub answers {error}") from error


def detect(source: str) -> Layout:
    """Detect the layout from the names of the tables."""
    tables = [path.name for path in Path(source).glob("*.parquet")]
    old = any(name.startswith(("train-", "eval-")) for name in tables)
    return "0225" if old else "1025"


def tarballs(source: str, wanted: Names, remote: bool) -> Iterator[tuple[str, str]]:
    """(key, path) of the tarballs of a subset and split.

    A remote destination keeps no unpacked PDFs between starts, so the process id makes its keys new
    to the journal, and the tarballs are unpacked again.
    """
    folder = Path(source, "pdf_tarballs")
    for path in sorted(folder.glob(f"{wanted.tarballs}*.tar.gz")):
        key = f"{path.name} {os.getpid()}" if remote else path.name
        yield key, str(path)


def work_items(table: str, most: int | None) -> Iterator[tuple[str, Rows]]:
    """(key, rows) of the table, `ROWS` rows at a time."""
    try:
        total = pq.read_metadata(table).num_rows
    except pa.ArrowException as error:
        raise ValueError(f"{table}: not a readable parquet file ({error})") from error
    total = min(total, most or total)
    for start in range(0, total, ROWS):
        yield f"rows {start:09d}", Rows(table, start, min(ROWS, total - start))


def merge(places: Places, keys: list[str]) -> None:
    """Merge the lines of all work items into urls.jsonl, extras.jsonl and the list of problems."""
    for name in ("urls", "extras", "problems"):
        paths = [piece(places, name, key) for key in keys]
        lines = (
            line
            for path in paths
            if storage.exists(path)
            for line in storage.read_text(path).split("\n")
            if line
        )
        if name == "problems":
            files.write_lines(storage.join(places.state, "rows_skipped.txt"), lines)
            continue
        first = list(islice(lines, 1))
        if first or name == "urls":
            target = storage.join(places.processed, f"{name}.jsonl")
            files.write_lines(target, (*first, *lines))
