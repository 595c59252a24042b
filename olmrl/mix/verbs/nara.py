"""National Archives catalog records with transcripts -> page pairs.

Reads catalog *.jsonl, keeps unrestricted records without machine-made tags, takes the latest human
transcription of every page image, and writes OUTPUT/<folder>/<file>/<naId>-<objectId>-page-<n>.
The next step is `clean`.
"""

# See docs/formats.md#national-archives-transcripts

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from typing import Any

from olmrl import storage
from olmrl.mix import files
from olmrl.mix.transcripts import Transcript, Unusable, add_transcript_arguments, build

_IMAGES = ("image", "tiff", "jp2", "jpeg", "jpg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_transcript_arguments(parser, tries=6)


def run(options: argparse.Namespace) -> int:
    """Build the pairs; see the module."""
    paths = files.listing(options.input_dir, ".jsonl")
    if not paths:
        raise ValueError(f"{options.input_dir}: no catalog files (*.jsonl) below it")
    return build("nara", (row for path in paths for row in read_file(path)), options)


def read_file(path: str) -> Iterator[Transcript | Unusable]:
    """The pages of one catalog file; lines are read one by one."""
    folder = os.path.basename(os.path.dirname(path))
    stem = f"{files.slug(folder)}/{files.slug(os.path.basename(path).removesuffix('.jsonl'))}"
    storage.refuse_stream(path)
    fs, inner = storage.filesystem(path)
    with storage.named(path), fs.open(inner, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            place = f"{stem} line {number}"
            try:
                entry = json.loads(line)
            except ValueError:
                yield Unusable(place, "not valid JSON")
                continue
            yield from read_entry(entry, place, stem)


def read_entry(entry: Any, place: str, stem: str) -> Iterator[Transcript | Unusable]:
    """The pages of one catalog record."""
    record = entry.get("record") if isinstance(entry, dict) else None
    if not isinstance(record, dict):
        yield Unusable(place, "not a catalog record")
        return
    status = _get(record, "accessRestriction", "status")
    if status != "Unrestricted":
        yield Unusable(place, f"access restriction is {status!r}")
        return
    tags = [tag for source in (entry, record) for tag in _objects(source, "record_tag")]
    if any(tag.get("aiMachineGenerated") is True for tag in tags):
        yield Unusable(place, "has machine-generated tags")
        return
    written = [t for s in (entry, record) for t in _objects(s, "record_transcription")]
    for item in _objects(record, "digitalObjects"):
        identity, url = item.get("objectId"), item.get("objectUrl")
        kind = str(item.get("objectType") or "").lower()
        if not identity or not url or not any(word in kind for word in _IMAGES):
            continue
        best = latest(written, str(identity))
        if best is None:
            continue
        target = best["target"]
        name = f"{target.get('naId', '')}-{identity}-page-{target.get('pageNum', 1)}"
        yield Transcript(f"{stem}/{files.slug(name)}", str(url), str(best["contribution"]))


def latest(written: list[dict[str, Any]], identity: str) -> dict[str, Any] | None:
    """The newest non-empty transcription of an object: by date if given, else the last one."""
    fitting = [
        t
        for t in written
        if t.get("contributionType") == "transcription"
        and str(t.get("contribution") or "").strip()
        and str(_get(t, "target", "objectId")) == identity
    ]
    return max(enumerate(fitting), key=lambda pair: (_date(pair[1]), pair[0]), default=(0, None))[1]


def _date(contribution: dict[str, Any]) -> str:
    return str(contribution.get("updatedAt") or contribution.get("createdAt") or "")


def _get(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _objects(value: Any, key: str) -> list[dict[str, Any]]:
    items = value.get(key) if isinstance(value, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
