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
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from olmrl import storage
from olmrl.errors import sentence
from olmrl.progress import track
from olmrl.synth.making.claim import claim, outside
from olmrl.synth.making.extras import Extras
from olmrl.synth.making.finish import Finish
from olmrl.synth.making.proven import write_proven
from olmrl.synth.proof.html_truth import read_html
from olmrl.synth.variants.set_anew import versions
from olmrl.synth.web import fonts
from olmrl.synth.web.browser import Browser, BrowserFailed
from olmrl.synth.web.browser_pool import map_with_browsers
from olmrl.synth.web.pages import (
    Height,
    WebPage,
    displayed,
    fill,
    measuring_html,
    pieces,
    shown_html,
    truth_html,
)
from olmrl.synth.web.source import Document, read_document
from olmrl.synth.web.style import FAMILIES, Look, draw_look

_SCALES = (1.0, 0.96, 0.92, 0.88)
"""Font sizes that are tried until a page fits."""


@dataclass(frozen=True)
class Kind:
    """A kind of documents that can be had as HTML."""

    name: str
    verb: str
    """Of the command."""
    suffixes: tuple[str, ...]
    read: Callable[[str], bytes]
    """HTML of a document, by its path. Raises ValueError with the reason that it has none."""


HTML = Kind("HTML file", "from-html", (".html", ".htm", ".xhtml"), storage.read_bytes)


@dataclass(frozen=True)
class Settings:
    """What decides the pages."""

    seed: int = 0
    pages_per_document: int = 4
    """Most pages of one document, drawn by seed."""
    documents: int | None = None
    """Most documents, drawn by seed; None: all."""
    most_tests: int = 40
    """Most tests of a page."""
    language: str = "en"
    """Two letters, of documents in Latin letters that name no language."""
    extras: Extras = field(default_factory=Extras)


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
    job = partial(_render_document, work=str(work.resolve()), settings=settings, read=kind.read)
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
    paths = [path for path in paths if path.lower().endswith(kind.suffixes)]
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
    now |= {"fonts": sorted(_families()), "extras": None, **settings.extras.shaping()}
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


def _families() -> frozenset[str]:
    """The fonts that looks are drawn from."""
    found = fonts.installed()
    return FAMILIES if found is None else FAMILIES & found.families


# -- documents to PDFs


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


def _render_document(
    browser: Browser,
    pair: tuple[str, str],
    work: str,
    settings: Settings,
    read: Callable[[str], bytes],
) -> dict[str, Any]:
    """Set the pages of one document and write them, then its record."""
    name, path = pair
    record: dict[str, Any] = {"name": name, "source": path, "pages": [], "left": {}, "reason": ""}
    try:
        data = read(path)
        document = read_document(data, settings.language)
        record |= settings.extras.read(document, data)
        record["pages"] = list(_render_pages(browser, document, name, work, settings))
        record["left"] = document.left
        if not record["pages"]:
            record["reason"] = _why_no_page(document)
    except Exception as error:  # whatever a parser makes of a user's file is that file's failure
        lines = str(error).splitlines() or [""]
        told = lines[0] if isinstance(error, ValueError) else f"{type(error).__name__}: {lines[0]}"
        record |= {"pages": [], "reason": told}
    target = Path(work) / "documents" / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    storage.write_json(target, record)
    return record


def _why_no_page(document: Document) -> str:
    if not document.left:
        return "too little text for a page"
    return "no whole page; " + ", ".join(f"{n} x {what}" for what, n in document.left.items())


def _render_pages(
    browser: Browser, document: Document, name: str, work: str, settings: Settings
) -> Iterator[dict[str, Any]]:
    rng = random.Random(f"{settings.seed}/{name}")
    look = draw_look(rng, document.language, _families())
    if fonts.missing(document.title, fonts.installed()):
        document.title = ""
    blocks = [block for block in pieces(document.blocks) if _renders(block, document)]
    if not blocks:
        return
    heights = browser.heights(measuring_html(document, blocks, look))
    pages = list(fill(blocks, heights, look, document.leave))
    if len(pages) > settings.pages_per_document:
        chosen = rng.sample(range(len(pages)), settings.pages_per_document)
        pages = [pages[number] for number in sorted(chosen)]

    def measure(shown: Sequence[str], with_look: Look) -> list[Height]:
        return browser.heights(measuring_html(document, shown, with_look))

    lost: set[str] = set()
    started = time.monotonic()
    for version in versions(
        pages, blocks, look, measure,
        shares=settings.extras.variants, seed=settings.seed, name=name,
    ):  # fmt: skip
        page, stem = version.page, f"{name}-p{version.page.number}{version.suffix}"
        if version.facts.get("of") in lost:
            continue
        made = _render_page(browser, document, page, version.look)
        if made is None:
            document.leave("page that does not fit")
            lost.add(stem)
            continue
        truth = truth_html(document, page)
        folder = Path(work) / "pages"
        storage.write_bytes(folder / f"{stem}.pdf", made)
        storage.write_text(folder / f"{stem}.md", read_html(truth).markdown)
        storage.write_text(folder / f"{stem}.html", truth)
        seconds, started = round(time.monotonic() - started, 2), time.monotonic()
        told = {"seconds": seconds, **version.facts}
        yield {"name": stem, "page": page.number, "look": asdict(version.look), **told}


def _renders(block: str, document: Document) -> bool:
    """Whether all formulas of a block render, none was lost, and fonts have all its letters."""
    _, failed = displayed(block)
    if failed or "\ufffc" in block:
        document.leave("block with a formula that cannot be set")
        return False
    letters = fonts.missing(block, fonts.installed())
    if letters:
        package = fonts.advice(letters)
        document.leave(f"block with a letter that no font has (Debian's package: {package})")
        return False
    return True


def _render_page(browser: Browser, document: Document, page: WebPage, look: Look) -> bytes | None:
    for scale in _SCALES:
        try:
            made = browser.print_page(
                shown_html(document, page, look, scale), look.width, look.height
            )
        except BrowserFailed as error:
            document.leave(str(error))
            return None
        if made is not None:
            return made
    return None


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
