"""Library of Congress "By the People" transcripts -> page pairs.

Reads the CSV files of the published transcription data sets, fetches the full-size image of each
completed page, and writes OUTPUT/<csv name>/<asset>.{md,pdf}. The next step is `clean`.
"""

# See docs/formats.md#library-of-congress-transcripts

from __future__ import annotations

import argparse
import csv
import fnmatch
import io
import os
import re
import sys
from collections.abc import Iterator

from olmrl import storage
from olmrl.mix import files
from olmrl.mix.transcripts import Transcript, Unusable, add_transcript_arguments, build

COLUMNS = ("Asset", "AssetStatus", "DownloadUrl", "Transcription")
"""Columns that are read."""

_SHRUNK = re.compile(r"/full/(?:pct:[\d.]+|\d*,\d*|!\d+,\d+)/0/default\.jpg$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_transcript_arguments(parser, tries=4)
    parser.add_argument("--csv-pattern", default="*.csv", help="which files (default %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Build the pairs; see the module."""
    found = files.listing(options.input_dir, "")
    pattern = options.csv_pattern.lower()
    names = [p for p in found if fnmatch.fnmatchcase(os.path.basename(p).lower(), pattern)]
    if not names:
        raise ValueError(f"{options.input_dir}: no files match {options.csv_pattern}")
    rows = (row for path in names for row in read_rows(path, stem_of(path, options)))
    return build("loc", rows, options)


def full_size(url: str) -> str:
    """The IIIF URL of the same image at full size."""
    return _SHRUNK.sub("/full/full/0/default.jpg", url)


def stem_of(path: str, options: argparse.Namespace) -> str:
    """Folder for a data set's pairs: the CSV's relative path in the input, without `.csv`."""
    parts = files.relative(path, options.input_dir).removesuffix(".csv").split("/")
    return "/".join(files.slug(part) for part in parts)


def read_rows(path: str, stem: str) -> Iterator[Transcript | Unusable]:
    """The pages of one CSV file.

    Args:
        path: The file.
        stem: Prefix of its pairs' names.

    Raises:
        ValueError: a required column is missing, or the file is not CSV at all.
    """
    csv.field_size_limit(min(sys.maxsize, 1 << 30))
    text = storage.read_bytes(path).decode("utf-8-sig", "replace")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"{path}: columns are missing: {', '.join(missing)}")
    seen: set[str] = set()
    rows = iter(reader)
    while True:
        place = f"{stem} line {reader.line_num + 1}"
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Unusable(place, f"not readable as CSV ({error})")
            continue
        asset, url = (row["Asset"] or "").strip(), (row["DownloadUrl"] or "").strip()
        status = (row["AssetStatus"] or "").strip()
        if not asset or not url:
            yield Unusable(place, "Asset or DownloadUrl is missing")
        elif status != "completed":
            yield Unusable(place, f"AssetStatus is {status!r}, not completed")
        elif asset in seen:
            yield Unusable(place, f"asset {asset!r} already occurs earlier in the file")
        else:
            seen.add(asset)
            pair_id = f"{stem}/{files.slug(asset)}"
            yield Transcript(pair_id, full_size(url), row["Transcription"] or "")
