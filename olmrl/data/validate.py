"""Which page pairs can be used at all, cached between runs.

See docs/formats.md#validation-of-page-pairs.

A pair is good when its PDF opens and has exactly one page and its .md file parses. Verdicts are
kept in one Parquet file by path, size and modification time of both files, so that only new and
changed pairs are opened again; how they are opened, and how many at a time, is the caller's choice.
A file that cannot be read gives no verdict: its pair is bad in this run and opened again in the
next.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from olmrl import storage
from olmrl.data.page import PageSource, read_reference
from olmrl.data.render import BadPage, UnreadPage, page_count
from olmrl.markup import front_matter

CACHE_NAME = "validation.parquet"

PLAIN = "plain"
"""Verdict of a good pair whose .md has no front matter."""

GOOD = ("", PLAIN)
"""Verdicts of pairs that can be used; any other is the reason why one cannot."""

_FORMAT = 2
"""Part of every key; raised when pairs are judged differently, so that no old verdict counts."""

Judge = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""`map`, which may run in parallel; the function is picklable."""


class Validation(NamedTuple):
    """What became of a list of pairs."""

    bad: list[BadPage]
    plain: frozenset[str]
    """Paths of the good PDFs whose .md has no front matter."""
    opened: int
    """Pairs that had to be opened; the others were cached."""


def check_pair(source: PageSource) -> str:
    """The verdict on a pair: one of `GOOD`, or why it cannot be used.

    Raises:
        UnreadPage: a file of it could not be read.
    """
    try:
        pages = page_count(source.pdf_path)
        if pages != 1:
            return f"the PDF has {pages} pages, a page pair has exactly one"
        text = read_reference(source)
    except UnreadPage:
        raise
    except BadPage as bad:
        return bad.reason
    if text is None:
        return "it has no .md file"
    try:
        front_matter.of_reference(text)
    except ValueError as error:
        return f"{source.reference_path}: {error}"
    return PLAIN if front_matter.is_plain(text) else ""


def bad_pair(source: PageSource) -> BadPage | None:
    """A pair as a bad page; None for a good one."""
    found = _check_or_unread(source)
    if isinstance(found, UnreadPage):
        return found
    return None if found in GOOD else BadPage(source.pdf_path, source.page_number, found)


def _check_or_unread(source: PageSource) -> str | UnreadPage:
    try:
        return check_pair(source)
    except UnreadPage as unread:
        return unread


def validate(sources: Sequence[PageSource], cache_dir: str, judge: Judge) -> Validation:
    """Find the bad pairs.

    Args:
        sources: Page pairs.
        cache_dir: Folder of the verdicts of earlier runs.
        judge: Opens the pairs that are not known.
    """
    path = storage.join(cache_dir, CACHE_NAME)
    known = load_verdicts(path)
    stamps = [stamp(source) for source in sources]
    unknown = [k for k, stamp in enumerate(stamps) if stamp not in known]
    unread: dict[str, str] = {}
    if unknown:
        judged = judge(_check_or_unread, [sources[k] for k in unknown])
        for k, found in zip(unknown, judged, strict=True):
            if isinstance(found, UnreadPage):
                unread[stamps[k]] = found.reason
            else:
                known[stamps[k]] = found
        save_verdicts(path, known)
    everything = known | unread
    reasons = [everything[stamp] for stamp in stamps]
    bad = [
        BadPage(source.pdf_path, source.page_number, reason)
        for source, reason in zip(sources, reasons, strict=True)
        if reason not in GOOD
    ]
    judged_plain = zip(sources, reasons, strict=True)
    plain = frozenset(source.pdf_path for source, reason in judged_plain if reason == PLAIN)
    return Validation(bad, plain, len(unknown))


def verdicts(sources: Sequence[PageSource], cache_dir: str) -> list[str | None]:
    """What earlier runs found of each pair (see `check_pair`); None for one not seen before."""
    known = load_verdicts(storage.join(cache_dir, CACHE_NAME))
    return [known.get(stamp(source)) for source in sources]


def stamp(source: PageSource) -> str:
    """Path, size and modification time of both files; changes whenever one of them does."""
    files = [_file_stamp(source.pdf_path), _file_stamp(source.reference_path)]
    return storage.shown("|".join([str(_FORMAT), source.pdf_path, *files]))


def _file_stamp(path: str | None) -> str:
    if path is None:
        return "none"
    try:
        if not storage.is_remote(path):
            status = os.stat(path)
            return f"{status.st_size}:{status.st_mtime_ns}"
        fs, inner = storage.filesystem(path)
        info = fs.info(inner)
    except OSError:
        return "missing"
    changed = next((info[k] for k in ("ETag", "etag", "LastModified", "mtime") if k in info), "")
    return f"{info['size']}:{changed}"


def load_verdicts(path: str) -> dict[str, str]:
    """Verdicts of earlier runs by stamp; a damaged file counts as none and is rewritten."""
    if not storage.exists(path):
        return {}
    try:
        table = pq.read_table(io.BytesIO(storage.read_bytes(path)))
        return dict(zip(table["stamp"].to_pylist(), table["reason"].to_pylist(), strict=True))
    except (pa.ArrowInvalid, KeyError):
        return {}


def save_verdicts(path: str, verdicts: Mapping[str, str]) -> None:
    """Write verdicts by stamp, whole or not at all."""
    buffer = io.BytesIO()
    reasons = [storage.shown(reason) for reason in verdicts.values()]
    pq.write_table(pa.table({"stamp": list(verdicts), "reason": reasons}), buffer)
    storage.write_bytes(path, buffer.getvalue())
