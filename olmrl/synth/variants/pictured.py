"""Pictures of proven pages: scanned, turned, of few dots an inch. Their tests are verified again.

Each variant is a page of its own, named after its source, with the same truth (a turned page says
so in its front matter) and the tests that still hold: they pass on its truth, and what they look
for can be read in its picture. A damage that makes more than a fiftieth of the letters unreadable
is tried again, gentler; a page that no try leaves readable gives no variant, and is counted.
"""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from olmrl import storage
from olmrl.bench import load_case
from olmrl.data.render import render_page
from olmrl.markup import front_matter
from olmrl.progress import track
from olmrl.scratch import Scratch
from olmrl.synth.derived.bench_rows import BenchRows, PageRows, pdf_of, renamed, truth_of
from olmrl.synth.proof.ink import LEAST_PIXELS, MOST_LOST, DamagedLayer, letter_height
from olmrl.synth.proof.layer import TextLayer
from olmrl.synth.proof.objections import test_objection
from olmrl.synth.variants.kinds import PICTURED, gets
from olmrl.synth.variants.picture_pdf import picture_pdf, turned_pdf
from olmrl.synth.variants.scan import jpeg_of, scan
from olmrl.types import UInt8Array

_STRENGTHS = (1.0, 0.6, 0.35)
_SCAN_DPI = (120, 150, 200)
_DPI = (72, 90, 110, 150, 200, 300)
_SCAN_FILES = {"math": "old_scans_math.jsonl"}


@dataclass(frozen=True)
class Variant:
    """What became of one page."""

    kind: str
    source: str
    """Name of the page it was made of."""
    page: PageRows | None = None
    """None: no variant."""
    pdf: bytes = b""
    truth: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    """How it was made."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Tests that do not hold on it, by reason; or why there is no variant."""


def add_variants(
    bench: BenchRows,
    shares: Mapping[str, float],
    seed: int,
    workers: int,
    sources: Sequence[PageRows],
) -> Iterator[Variant]:
    """Make the variants of the finished pages and add them to a bench folder.

    Args:
        bench: The folder; its test files are not written.
        shares: Of `kinds.parse_variants`.
        seed: Of the run.
        workers: Processes.
        sources: Its pages that may get variants.
    """
    jobs = [
        (kind, page, sources[number - 1])
        for kind in PICTURED
        for number, page in enumerate(sources)
        if gets(shares, kind, page.name, seed)
    ]
    job = partial(_job, folder=bench.folder, seed=seed)
    title = "making variants"
    if workers == 1 or len(jobs) < 2:
        made: Iterator[Variant] = map(job, jobs)
        yield from (_added(bench, variant) for variant in track(made, title, len(jobs)))
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn")) as pool:
        made = pool.map(job, jobs)
        yield from (_added(bench, variant) for variant in track(made, title, len(jobs)))


def _added(bench: BenchRows, variant: Variant) -> Variant:
    if variant.page is not None:
        bench.add(variant.page, variant.pdf, variant.truth)
    return variant


def _job(what: tuple[str, PageRows, PageRows], folder: Path, seed: int) -> Variant:
    kind, page, other = what
    pdf, reverse = (str(pdf_of(folder, p)) for p in (page, other))
    rng = np.random.default_rng(random.Random(f"{seed}/{kind}/{page.name}/look").getrandbits(64))
    make: dict[str, Callable[[], _Picture | None]] = {
        "scan": lambda: _scanned(pdf, reverse, rng),
        "rotate": lambda: _turned(pdf, rng),
        "dpi": lambda: _coarse(pdf, rng),
    }
    picture = make[kind]()
    if picture is None:
        return Variant(kind, page.name, dropped=Counter({"no try leaves its letters readable": 1}))
    truth = _turned_truth(truth_of(folder, page).read_text("utf-8"), picture.clockwise)
    rows, dropped = _holding(renamed(page, kind), picture.layer, truth)
    if kind == "scan":
        rows = replace(rows, tests=tuple((_scan_file(f, r), r) for f, r in rows.tests))
    if all(row["type"] == "baseline" for _, row in rows.tests):
        return Variant(kind, page.name, dropped=Counter({"none of its tests holds": 1}))
    return Variant(kind, page.name, rows, picture.pdf, truth, picture.facts, dropped)


def _scan_file(file: str, row: Mapping[str, Any]) -> str:
    if row["type"] in ("baseline", "table", "absent"):
        return file
    return _SCAN_FILES.get(row["type"], "old_scans.jsonl")


def _holding(page: PageRows, layer: DamagedLayer, truth: str) -> tuple[PageRows, Counter[str]]:
    """The page with the tests that hold on its truth and in its picture."""
    kept, dropped = [], Counter[str]()
    for file, row in page.tests:
        reason = "" if load_case(row).run(truth).passed else "fails on the truth"
        reason = reason or test_objection(layer, row)
        if reason:
            dropped[f"{row['type']}: {reason}"] += 1
        else:
            kept.append((file, row))
    return replace(page, tests=tuple(kept)), dropped


def _turned_truth(truth: str, clockwise: int) -> str:
    """The truth of the page as it lies: turned clockwise, counter-clockwise undoes it."""
    if not clockwise:
        return truth
    response = front_matter.parse(truth)
    return front_matter.format(
        replace(response, is_rotation_valid=False, rotation_correction=clockwise)
    )


# -- the pictures


@dataclass(frozen=True)
class _Picture:
    pdf: bytes
    layer: DamagedLayer
    facts: dict[str, Any]
    clockwise: int = 0


def _pixels(pdf: str, layer: TextLayer, dpi: int) -> UInt8Array:
    side = max(1, round(max(layer.width, layer.height) / 72 * dpi))
    return render_page(pdf, 1, side)


def _scanned(pdf: str, reverse: str, rng: np.random.Generator) -> _Picture | None:
    layer = TextLayer.of(pdf)
    dpi = int(rng.choice(_SCAN_DPI))
    page, back = _pixels(pdf, layer, dpi), _pixels(reverse, layer, dpi)
    seed = int(rng.integers(2**63))
    for strength in _STRENGTHS:
        made = scan(page, back, dpi, np.random.default_rng(seed), strength)
        damaged = DamagedLayer.over(layer, _decoded(made.jpeg), made.back)
        if damaged.lost <= MOST_LOST:
            facts = {"dpi": dpi, "strength": strength, "effects": list(made.effects)}
            return _Picture(picture_pdf(made.jpeg, layer.width, layer.height), damaged, facts)
    return None


def _coarse(pdf: str, rng: np.random.Generator) -> _Picture | None:
    """Drawn with few or many dots an inch; more where the letters would be too small."""
    layer = TextLayer.of(pdf)
    first = int(rng.integers(len(_DPI)))
    for dpi in _DPI[first:]:
        page = _pixels(pdf, layer, dpi)
        jpeg = jpeg_of(page, 90)
        damaged = DamagedLayer.over(layer, _decoded(jpeg))
        if letter_height(layer) * dpi / 72 >= LEAST_PIXELS and damaged.lost <= MOST_LOST:
            return _Picture(picture_pdf(jpeg, layer.width, layer.height), damaged, {"dpi": dpi})
    return None


def _turned(pdf: str, rng: np.random.Generator) -> _Picture | None:
    layer = TextLayer.of(pdf)
    clockwise = int(rng.choice([90, 180, 270]))
    made = turned_pdf(storage.read_bytes(pdf), clockwise)
    with Scratch("turned") as folder:
        path = storage.join(folder, "turned.pdf")
        storage.write_bytes(path, made)
        shown = render_page(path, 1, max(layer.grey.shape))
    damaged = DamagedLayer.over(layer, np.ascontiguousarray(np.rot90(shown, clockwise // 90)))
    if damaged.lost > MOST_LOST:
        return None
    return _Picture(made, damaged, {"clockwise": clockwise}, clockwise)


def _decoded(jpeg: bytes) -> UInt8Array:
    return np.asarray(Image.open(io.BytesIO(jpeg)))
