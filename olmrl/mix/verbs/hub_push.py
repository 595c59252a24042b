"""A data set of `hub-package` -> the Hugging Face Hub, with a card from what `stats` counted.

The only verb that sends a data set anywhere: private unless --public, nothing with --dry-run. The
same call again sends what changed, and goes on with what broke off. The token is HF_TOKEN.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from olmrl import storage
from olmrl.errors import check_all
from olmrl.mix.card import Table, data_set_card
from olmrl.share.options import add_sharing_arguments, sharing_checks
from olmrl.share.send import CARD, send
from olmrl.share.upload import Item, Target

_STATE = Path(".mix", "hub-package")
_OWNED = ("*.parquet", "*.tar.gz")
"""Tables and tarballs of an earlier push, which would be mixed with this one's."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("folder", help="OUTPUT_DIR of hub-package")
    add_sharing_arguments(parser)
    parser.add_argument("--stats", required=True, help="OUTPUT of stats, on the same page pairs")


def run(options: argparse.Namespace) -> int:
    """Show or send the data set; see the module."""
    check_all(
        partial(_check_folder, options.folder),
        *sharing_checks(options),
        partial(_stats, options.stats),
    )
    folder = Path(options.folder)
    tables = list(_tables(folder))
    counts = _counts(options.stats, sum(one.rows for one in tables))
    items = list(_items(folder, tables))
    licence = {
        "license": options.licence,
        "license_name": options.licence_name,
        "license_link": options.licence_link,
    }
    card = data_set_card(counts, name=options.repo, tables=tables, licence=licence)
    known = {item.name for item in items}
    names = (str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file())
    left = [name for name in names if name not in known and not name.startswith(".mix/")]
    send(
        Target(options.repo, "dataset", options.public, _OWNED),
        card,
        items,
        f"{sum(one.rows for one in tables)} pages",
        dry_run=options.dry_run,
        left=[name for name in left if name != CARD],
    )
    return 0


def _check_folder(folder: str) -> None:
    if storage.is_remote(folder) or not Path(folder).is_dir():
        raise ValueError(f"{folder}: no such folder on this machine")
    if not any((Path(folder) / _STATE).glob("*/summary.json")):
        raise ValueError(f"{folder}: no data set of `olmrl mix hub-package`; package it first")


def _tables(folder: Path) -> Iterator[Table]:
    """The parquet files, each by the state that hub-package left.

    Raises:
        ValueError: hub-package is not done with the folder.
    """
    for state in sorted((folder / _STATE).glob("*/summary.json")):
        done = json.loads(state.read_text("utf-8"))
        name = state.parent.name
        if not done["complete"]:
            raise ValueError(
                f"{folder}: {name} is not complete; run its hub-package again, then push"
            )
        subset, _, split = name.rpartition("_")
        path = folder / f"{name}.parquet"
        if not path.is_file():
            raise ValueError(f"{path}: is missing; run hub-package again without --parquet-name")
        yield Table(path.name, subset, split, pq.ParquetFile(path).metadata.num_rows)


def _items(folder: Path, tables: list[Table]) -> Iterator[Item]:
    """Tables, tarballs and their manifest.

    Raises:
        ValueError: a tarball that a table names is not there, or a file leads elsewhere.
    """
    chunks = set()
    for one in tables:
        column = pq.read_table(folder / one.file, columns=["pdf_relpath"])["pdf_relpath"]
        chunks |= {str(place).partition(":")[0] for place in column.to_pylist()}
    manifests = [path.name for path in folder.glob("*.jsonl")]
    for name in sorted({*(one.file for one in tables), *manifests, *chunks}):
        path = folder / name
        if not path.is_file() or path.stat().st_size == 0:
            raise ValueError(f"{path}: is named in the data set, and is missing or empty")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{path}: leads to {path.resolve()}; put the file itself there")
        yield Item(name, os.fspath(path))


def _counts(stats: str, rows: int) -> dict[str, Any]:
    """What `stats` counted of the same pages.

    Raises:
        ValueError: it counted something else.
    """
    path = _stats(stats)
    counts: dict[str, Any] = json.loads(storage.read_text(path))
    counted = counts["pages"] + counts.get("left_out", 0)
    if counted != rows:
        raise ValueError(
            f"{path}: counts {counted} pages, and the data set holds {rows}; run `olmrl mix stats` "
            "on the folders that were packaged"
        )
    return counts


def _stats(stats: str) -> str:
    """The file with what `stats` counted.

    Raises:
        ValueError: there is none.
    """
    path = storage.join(stats, "stats.json")
    if not storage.exists(path):
        raise ValueError(f"--stats {stats}: has no stats.json; run `olmrl mix stats` first")
    return path
