"""The heavy half of `hub-prepare`: unpacks tarballs and writes rows, in child processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from olmrl import storage
from olmrl.markup import front_matter
from olmrl.mix import files, hub_layout, pairs
from olmrl.mix.hub_layout import Layout
from olmrl.mix.run import Outcome, Skip


class Rows(NamedTuple):
    """One work item: consecutive rows of the table."""

    table: str
    """Local path of the parquet file."""
    start: int
    """First row."""
    length: int
    """Number of rows."""


class Places(NamedTuple):
    """Where a run reads and writes."""

    layout: Layout
    """Layout of the data set."""
    extracted: str
    """Local folder of the unpacked PDFs."""
    processed: str
    """Folder of the page pairs."""
    state: str
    """Folder for each work item's rows of urls.jsonl and extras.jsonl."""


def unpack_tarball(path: str, folder: str) -> Outcome:
    """Unpack one tarball; refused members are counted and listed."""
    refused: list[str] = []
    count = 0
    try:
        for name, reason in hub_layout.unpack(path, folder):
            count += reason is None
            if reason is not None:
                refused.append(f"{name[:80]}: {reason}")
    except ValueError as error:
        return Outcome("failed", str(error), {"pdfs": count})
    facts: dict[str, float] = {"pdfs": count, "members_refused": len(refused)}
    return Outcome("done", "; ".join(refused[:20]) or None, facts)


def prepare_rows(table: str, rows: Rows, places: Places) -> Outcome:
    """Write the pairs of some rows, and their lines in urls.jsonl and extras.jsonl.

    Args:
        table: The parquet file (named in errors).
        rows: Which rows.
        places: Where to read and write.
    """
    assert table == rows.table
    urls, extras, problems = [], [], []
    blank = 0
    for doc_id, row in read_rows(rows):
        try:
            pair_id = hub_layout.pair_id(places.layout, doc_id)
            response, more = hub_layout.response_of(row)
            raw = row.get("raw_markdown")
            text = raw if isinstance(raw, str) else front_matter.format(response)
            pairs.write(places.processed, pair_id, text, extracted_pdf(places, doc_id))
        except (ValueError, Skip) as error:
            problems.append(f"{doc_id[:80]}: {error}")
            continue
        blank += response.natural_text is None
        if isinstance(row.get("url"), str) and row["url"]:
            urls.append(pairs.json_line({"id": doc_id, "url": row["url"]}))
        if more:
            extras.append(pairs.json_line({"id": doc_id, "extras": more}))
    for name, lines in (("urls", urls), ("extras", extras), ("problems", problems)):
        files.write_lines(piece(places, name, f"rows {rows.start:09d}"), lines)
    facts: dict[str, float] = {
        "pages": rows.length - len(problems),
        "blank": blank,
        "rows_skipped": len(problems),
    }
    return Outcome("done", "; ".join(problems[:5]) or None, facts)


def extracted_pdf(places: Places, doc_id: str) -> str:
    """The unpacked PDF of a document.

    Raises:
        Skip: there is none.
    """
    path = files.join_inside(places.extracted, doc_id + ".pdf")
    if not os.path.isfile(path):
        raise Skip("its PDF is in none of the tarballs")
    return path


def read_rows(rows: Rows) -> Iterator[tuple[str, dict[str, Any]]]:
    """(document id, row) of a range of the table; only the row groups it spans are read."""
    file = pq.ParquetFile(rows.table)
    columns = set(file.schema_arrow.names)
    id_column = next((c for c in ("id", "__index_level_0__") if c in columns), None)
    if id_column is None:
        raise ValueError(f"{rows.table}: no column `id`")
    first = 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        low, high = max(rows.start, first), min(rows.start + rows.length, first + count)
        if low < high:
            table = file.read_row_group(group).slice(low - first, high - low)
            for row in table.to_pylist():
                yield str(row.pop(id_column)), row
        first += count


def piece(places: Places, name: str, key: str) -> str:
    """File with one work item's lines of urls, extras or problems."""
    return storage.join(places.state, name, key.replace(" ", "_") + ".jsonl")
