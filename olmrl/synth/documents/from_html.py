"""Users' own HTML to pages with certain truth and proven unit tests, without any model.

    SOURCE/**/*.html -> blocks -> pages -> Chromium -> PDF -> proof -> OUT

    OUT/bench     bench folder: pdfs/, truth, one test file per type; `olmrl.grpo` trains on it
    OUT/pairs     the same pages as X.pdf + X.md; `olmrl.sft` trains on them
    OUT/sheet     pages to look at, with their truth and tests
    OUT/manifest.jsonl  what is known of each page (docs/formats.md#manifest-of-pages)
    OUT/report.json  what was made, and why the rest was not
    OUT/work      one record per document: a call that was killed goes on where it was

Names follow content, looks and choices follow names and seed, so that the same documents give the
same pages in any order, by any number of processes.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from olmrl import storage
from olmrl.errors import sentence
from olmrl.progress import track
from olmrl.suffixes import has_suffix
from olmrl.synth.documents.rendering import families, render_document
from olmrl.synth.documents.settings import HTML, Kind, Settings
from olmrl.synth.making.claim import claim, outside
from olmrl.synth.making.finish import Finish
from olmrl.synth.making.proven import write_proven
from olmrl.synth.web.browser import Browser
from olmrl.synth.web.browser_pool import map_with_browsers


def from_html(
    source: str,
    out: str,
    settings: Settings,
    workers: int,
    kind: Kind = HTML,
    ray_address: str | None = None,
) -> dict[str, Any]:
    """Make the folders; see the module.

    Args:
        source: Folder with documents, in any sub-folders.
        out: Folder to write, local.
        settings: What decides the pages.
        workers: Processes, each with a browser of its own.
        kind: Of the documents.
        ray_address: Set the pages on Ray (`map_with_browsers`), whose nodes all see `out`.

    Returns:
        The report, as written to report.json.

    Raises:
        ValueError: no document below `source`, OUT was made with other settings or holds something
            else (`claim`), no browser, or no document gave a page.
    """
    _check(out, settings, workers)
    found, counts, unread = _documents(source, out, settings, kind)
    Browser().close()  # a missing browser is one sentence, before any process starts
    with claim(out, kind.verb) as work:
        _same_settings(work, settings)
        report = _make(out, work, source, found, unread, settings, workers, kind, ray_address)
        report["documents"] = counts | report["documents"]
        storage.write_json(storage.join(out, "report.json"), report)
    return report


def _make(
    out: str,
    work: Path,
    source: str,
    found: Sequence[tuple[str, str]],
    unread: dict[str, str],
    settings: Settings,
    workers: int,
    kind: Kind,
    ray_address: str | None,
) -> dict[str, Any]:
    """Set the pages, prove their tests, and write everything but the report."""
    (work / "pages").mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    job = partial(render_document, work=str(work.resolve()), settings=settings, read=kind.read)
    mapped = partial(map_with_browsers, job, workers=workers, ray_address=ray_address)
    records = list(_render_all(found, work, mapped))
    if not any(record["pages"] for record in records):
        reasons = [*unread.items(), *((r["source"], r["reason"]) for r in records)]
        few = "; ".join(f"{path}: {why}" for path, why in reasons[:3])
        raise ValueError(f"{source}: none of its {len(reasons)} documents gave a page ({few})")
    rendered = time.monotonic()
    names = [page["name"] for record in records for page in record["pages"]]
    finish = Finish(settings.extras, _facts(records), settings.seed, workers)
    report = write_proven(
        out, work, names, seed=settings.seed, most_tests=settings.most_tests, workers=workers,
        told=finish.told, finish=finish.bench,
    )  # fmt: skip
    finish.write(out)
    report["documents"] = _told(records, unread)
    report["seconds"] = {
        "render": round(rendered - started, 1),
        "derive": round(time.monotonic() - rendered, 1),
    }
    return report


def _check(out: str, settings: Settings, workers: int) -> None:
    if storage.is_remote(out):
        raise ValueError(f"{out}: pages are made in a local folder; copy it afterwards")
    counts = {"--pages-per-document": settings.pages_per_document, "--workers": workers}
    counts |= {"--max-tests": settings.most_tests}
    counts |= {"--documents": 1 if settings.documents is None else settings.documents}
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} {count} must be at least 1")
    if not re.fullmatch("[a-z]{2}", settings.language):
        raise ValueError(f"--language {settings.language!r} must be two small letters, e.g. de")


def _documents(
    source: str, out: str, settings: Settings, kind: Kind
) -> tuple[list[tuple[str, str]], dict[str, int], dict[str, str]]:
    """(name, path) of each document, how many there were, and why some cannot be read."""
    paths = outside(out, storage.list_files(source))
    paths = [path for path in paths if has_suffix(path, kind.suffixes)]
    if not paths:
        raise ValueError(f"{source}: no {kind.name} ({', '.join(kind.suffixes)}) in it")
    named: dict[str, tuple[str, str]] = {}
    unread: dict[str, str] = {}
    for path in paths:
        try:
            digest = _digest(path)
        except (OSError, ValueError) as error:
            unread[path] = sentence(error)
            continue
        stem = re.sub(r"[^A-Za-z0-9]+", "-", PurePosixPath(path).stem)[:40].strip("-") or "page"
        named.setdefault(digest, (f"{stem}-{digest}", path))
    chosen = sorted(named.values())
    if settings.documents is not None and settings.documents < len(chosen):
        chosen = sorted(random.Random(settings.seed).sample(chosen, settings.documents))
    copies = len(paths) - len(named) - len(unread)
    counts = {"found": len(paths), "copies": copies, "unreadable": len(unread)}
    return chosen, counts | {"taken": len(chosen)}, unread


def _digest(path: str) -> str:
    """Of a file's content.

    Raises:
        OSError: it cannot be read.
        ValueError: it is a pipe or a device, which may never end.
    """
    if not storage.is_remote(path) and not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{path}: not a regular file")
    return hashlib.sha256(storage.read_bytes(path)).hexdigest()[:12]


def _same_settings(work: Path, settings: Settings) -> None:
    path = work / "settings.json"
    now = asdict(settings) | {"documents": None, "most_tests": None}  # these change no page
    now |= {"fonts": sorted(families()), "extras": None, **settings.extras.shaping()}
    if path.exists():
        before = json.loads(path.read_text("utf-8"))
        for key, value in now.items():
            if before.get(key) != value:
                raise ValueError(
                    f"{work.parent}: its pages were made with {key}={before.get(key)}, but now it "
                    f"is {value}; give the old value or another folder"
                )
        return
    storage.write_json(path, now)


def _render_all(
    found: Sequence[tuple[str, str]],
    work: Path,
    mapped: Callable[[Sequence[tuple[str, str]]], Iterator[dict[str, Any]]],
) -> Iterator[dict[str, Any]]:
    """The record of every document, in order; those of an earlier call are taken over."""
    records: dict[str, dict[str, Any]] = {}
    for name, source in found:
        path = work / "documents" / f"{name}.json"
        if path.exists():
            # the same content may lie elsewhere by now
            records[name] = json.loads(path.read_text("utf-8")) | {"source": source}
    missing = [pair for pair in found if pair[0] not in records]
    for record in track(mapped(missing), "setting pages", len(missing)):
        records[record["name"]] = record
    yield from (records[name] for name, _ in found)


def _facts(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the manifest tells of each page."""
    return {
        page["name"]: {
            "source": record["source"],
            "source_page": page["page"],
            **{key: record[key] for key in ("licence", "redacted") if record.get(key) is not None},
            **{key: value for key, value in page.items() if key not in ("name", "page", "look")},
        }
        for record in records
        for page in record["pages"]
    }


def _told(records: Sequence[dict[str, Any]], unread: dict[str, str]) -> dict[str, Any]:
    left: Counter[str] = sum((Counter(r["left"]) for r in records), Counter())
    return {
        "with_pages": sum(bool(r["pages"]) for r in records),
        "without_pages": unread | {r["source"]: r["reason"] for r in records if not r["pages"]},
        "pages_set": sum(len(r["pages"]) for r in records),
        "left_out": dict(left.most_common()),
    }
