"""Page pairs -> a Hugging Face data set: parquet, tarballs of at most 1 GiB, manifest.

The inverse of `hub-prepare`, byte for byte: a markdown file that is not in canonical form is kept
whole in the column raw_markdown. Rows are written in order of id; equal input gives equal files.
"""

# See docs/formats.md#olmocr-mix-on-the-hub

from __future__ import annotations

import argparse
import gzip
import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from olmrl import storage
from olmrl.arguments import positive
from olmrl.errors import check_all
from olmrl.markup import front_matter
from olmrl.mix import files, pairs
from olmrl.mix.hub_layout import response_of
from olmrl.mix.run import Outcome, Run, Skip, add_run_arguments

ROWS = 2000
"""Rows of one parquet row group."""

CODECS = ("snappy", "zstd", "gzip", "lz4", "brotli", "none")
"""What parquet compresses with."""

MEMBER_OVERHEAD = 1024
"""Bytes counted per tar member in addition to its content (header and padding)."""

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("page_number", pa.int64()),
        ("pdf_relpath", pa.string()),
        ("primary_language", pa.string()),
        ("is_rotation_valid", pa.bool_()),
        ("rotation_correction", pa.int64()),
        ("is_table", pa.bool_()),
        ("is_diagram", pa.bool_()),
        ("natural_text", pa.string()),
        ("extras", pa.string()),
        ("raw_markdown", pa.string()),
    ],
)


def _with_pandas_index(schema: pa.Schema) -> pa.Schema:
    """The schema with metadata that makes `id` the pandas index, as in the published sets."""
    kinds = {pa.string(): ("unicode", "object"), pa.bool_(): ("bool", "bool")}
    columns = []
    for field in schema:
        pandas_type, numpy_type = kinds.get(field.type, ("int64", "int64"))
        row = {"name": field.name, "field_name": field.name, "metadata": None}
        columns.append({**row, "pandas_type": pandas_type, "numpy_type": numpy_type})
    note = {"index_columns": ["id"], "column_indexes": [], "columns": columns}
    return schema.with_metadata({"pandas": json.dumps(note)})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("--processed-dir", required=True, help="folder of page pairs")
    parser.add_argument("--subset", required=True, help="e.g. 00_documents")
    parser.add_argument("--split", required=True, help="e.g. train")
    parser.add_argument("--output-dir", required=True, help="folder of the data set")
    parser.add_argument("--parquet-name", help="default SUBSET_SPLIT.parquet")
    parser.add_argument("--pdf-chunk-dir", default="pdf_tarballs")
    parser.add_argument("--pdf-chunk-prefix", help="default SUBSET_SPLIT")
    parser.add_argument("--max-tar-size-bytes", type=positive, default=1 << 30)
    parser.add_argument("--pdf-root", help="folder of the PDFs, if they are not next to the .md")
    parser.add_argument("--parquet-compression", choices=CODECS, default="snappy")
    parser.add_argument("--manifest-name", default="pdf_chunk_manifest.jsonl")
    parser.add_argument("--strict", action="store_true", help="stop at the first unusable pair")
    add_run_arguments(parser, workers=1)


class Entry(NamedTuple):
    """One pair and the tarball that its PDF goes into."""

    pair: pairs.Pair
    """The pair, with the PDF to pack."""
    chunk: str
    """Name of the tarball."""


def run(options: argparse.Namespace) -> int:
    """Package the pairs; see the module."""
    check_all(
        partial(_check_name, "--subset", options.subset),
        partial(_check_name, "--split", options.split),
        *(
            partial(_check_name, f"--{key.replace('_', '-')}", value)
            for key in ("parquet_name", "pdf_chunk_dir", "pdf_chunk_prefix", "manifest_name")
            if (value := getattr(options, key)) is not None
        ),
        partial(_check_folder, "--processed-dir", options.processed_dir),
        partial(_check_folder, "--pdf-root", options.pdf_root),
        partial(storage.refuse_hub, options.output_dir),
    )
    label = f"{options.subset}_{options.split}"
    prefix = options.pdf_chunk_prefix or label
    parquet_name = options.parquet_name or f"{label}.parquet"
    settings = {
        key: getattr(options, key)
        for key in ("processed_dir", "max_tar_size_bytes", "pdf_root", "parquet_compression")
    }
    state = options.state or storage.join(options.output_dir, ".mix", "hub-package", label)
    with Run("hub-package", options.output_dir, settings, state=state) as verb:
        urls = pairs.read_urls(options.processed_dir)
        extras = read_extras(options.processed_dir)
        entries = list(plan(verb, options, prefix))
        if not entries:
            raise verb.useless(options.processed_dir, "page pair (*.md, *.pdf)")
        for chunk in sorted({entry.chunk for entry in entries}):
            if not verb.finished(chunk):
                members = [entry.pair for entry in entries if entry.chunk == chunk]
                size = pack(storage.join(options.output_dir, options.pdf_chunk_dir, chunk), members)
                verb.record(chunk, Outcome(facts={"pages": len(members), "tar_bytes": size}))
        write_manifest(options, entries)
        target = storage.join(options.output_dir, parquet_name)
        write_table(target, (row_of(e, options, urls, extras) for e in entries), options)
    return 0


def _check_name(option: str, name: str) -> None:
    if name != name.strip() or not name.strip(".") or "/" in name:
        raise ValueError(f"{option} {name!r}: becomes a part of file names; e.g. 00_documents")


def _check_folder(option: str, place: str | None) -> None:
    if place is not None and not storage.exists(place):
        raise ValueError(f"{option} {place}: no such folder")


def read_extras(folder: str) -> dict[str, dict[str, Any]]:
    """{id: extras} that `hub-prepare` left next to the pairs."""
    path = storage.join(folder, "extras.jsonl")
    if not storage.exists(path):
        return {}
    return {row["id"]: row["extras"] for _, row in storage.read_jsonl(path)}


def plan(verb: Run, options: argparse.Namespace, prefix: str) -> Iterator[Entry]:
    """Assign every usable pair, in order of id, to a tarball below the size limit."""
    number = used = 0
    there, beside = pairs.scan(options.processed_dir)
    verb.tell_beside(len(there), beside)
    for pair in there:
        try:
            found = usable(pair, options)
            size = files.size_of(found.pdf) + MEMBER_OVERHEAD
            if size > options.max_tar_size_bytes:
                raise Skip(f"its PDF alone exceeds --max-tar-size-bytes ({size} bytes)")
        except Skip as skip:
            if options.strict:
                raise ValueError(f"{pair.md}: {skip}") from skip
            if not verb.finished(pair.id):
                verb.record(pair.id, Outcome("skipped", str(skip)))
            continue
        if used and used + size > options.max_tar_size_bytes:
            number, used = number + 1, 0
        used += size
        yield Entry(found, f"{prefix}_{number:05d}.tar.gz")


def usable(pair: pairs.Pair, options: argparse.Namespace) -> pairs.Pair:
    """The pair with the path of its PDF.

    Raises:
        Skip: there is no PDF, or the markdown has no valid front matter.
    """
    try:
        front_matter.parse(storage.read_document(pair.md))
    except ValueError as error:
        text = storage.read_document(pair.md) if _is_text(pair.md) else ""
        head, _ = front_matter.split(text)
        if not any(name in head for name in front_matter.HEAD_FIELDS):
            raise Skip(str(error)) from error
    if not storage.exists(pair.pdf) and options.pdf_root:
        pair = pair._replace(pdf=files.join_found(options.pdf_root, pair.id + ".pdf"))
    if not storage.exists(pair.pdf):
        raise Skip("it has no PDF")
    return pair


def _is_text(path: str) -> bool:
    try:
        storage.read_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def pack(path: str, members: list[pairs.Pair]) -> int:
    """Write one tarball, the same bytes for the same content; returns its size."""
    with files.staged(path) as local:
        with ExitStack() as stack:
            raw = stack.enter_context(open(local, "wb"))
            # PDFs hardly compress, and level 1 takes a third of the default's time.
            packed = stack.enter_context(
                gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=1, mtime=0)
            )
            archive = stack.enter_context(tarfile.open(fileobj=packed, mode="w|"))
            for pair in members:
                data = storage.read_bytes(pair.pdf)
                info = tarfile.TarInfo(f"{pair.id}.pdf")
                info.size = len(data)
                info.mode = 0o644
                archive.addfile(info, io.BytesIO(data))
        return files.size_of(local)


def write_manifest(options: argparse.Namespace, entries: list[Entry]) -> None:
    """Write one row per PDF that says which tarball it is in."""
    rows = (
        {
            "doc_id": entry.pair.id,
            "chunk": f"{options.pdf_chunk_dir}/{entry.chunk}",
            "arcname": f"{entry.pair.id}.pdf",
            "pdf_relpath": relpath(entry, options),
        }
        for entry in entries
    )
    target = storage.join(options.output_dir, options.manifest_name)
    files.write_lines(target, (pairs.json_line(row) for row in rows))


def relpath(entry: Entry, options: argparse.Namespace) -> str:
    """`pdf_tarballs/<tarball>:<id>.pdf`."""
    return f"{options.pdf_chunk_dir}/{entry.chunk}:{entry.pair.id}.pdf"


def row_of(
    entry: Entry,
    options: argparse.Namespace,
    urls: dict[str, str],
    known_extras: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """The table row of a pair."""
    pair = entry.pair
    text = storage.read_document(pair.md)
    head, body = front_matter.split(text)
    response, _ = response_of({**head, "natural_text": body})
    beyond = {key: value for key, value in head.items() if key not in front_matter.HEAD_FIELDS}
    more = {**known_extras.get(pair.id, {}), **beyond}
    canonical = front_matter.format(response)
    page = more.get("page_number")
    trailing = re.search(r"-(\d{1,9})$", pair.id)
    return {
        "id": pair.id,
        "url": urls.get(pair.id) or urls.get(pair.id.replace("/", "")),
        "page_number": page if isinstance(page, int) else int(trailing[1]) if trailing else None,
        "pdf_relpath": relpath(entry, options),
        **{name: getattr(response, name) for name in SCHEMA.names if hasattr(response, name)},
        "extras": json.dumps(more, ensure_ascii=False, default=str) if more else None,
        "raw_markdown": None if text == canonical else text,
    }


def write_table(path: str, rows: Iterable[dict[str, Any]], options: argparse.Namespace) -> None:
    """Write the parquet file row group by row group."""
    source = iter(rows)
    with (
        files.staged(path) as local,
        pq.ParquetWriter(
            local, _with_pandas_index(SCHEMA), compression=options.parquet_compression
        ) as writer,
    ):
        while batch := list(islice(source, ROWS)):
            writer.write_table(pa.Table.from_pylist(batch, schema=writer.schema))
