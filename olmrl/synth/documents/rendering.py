"""One document, set as pages: blocks are cut to pages, measured and printed by a browser."""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from olmrl import storage
from olmrl.synth.documents.settings import Settings
from olmrl.synth.proof.html_truth import read_html
from olmrl.synth.variants.set_anew import versions
from olmrl.synth.web import fonts
from olmrl.synth.web.browser import Browser, BrowserFailed
from olmrl.synth.web.document import Document
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
from olmrl.synth.web.source import read_document
from olmrl.synth.web.style import FAMILIES, Look, draw_look

_SCALES = (1.0, 0.96, 0.92, 0.88)
"""Font sizes that are tried until a page fits."""


def families() -> frozenset[str]:
    """The fonts that looks are drawn from."""
    found = fonts.installed()
    return FAMILIES if found is None else FAMILIES & found.families


def render_document(
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
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # but not the disk's, which the next call would believe
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
    look = draw_look(rng, document.language, families())
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
