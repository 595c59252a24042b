"""Unit tests from truth, so that GRPO can use any pages.

PAIRS holds page pairs (X.pdf + X.md) or HTML pages (X.pdf + X.html), in any sub-folders.
OUT becomes a bench folder: pdfs/, claude_original/ with the truth, one JSONL file per
test type, and derive_report.json, which says what was derived and why pages yielded nothing.

A test is kept if it passes on the page's truth and fails on a seeded corruption of it. The same
seed and pages give the same tests, whatever the order or number of processes.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import PurePosixPath
from typing import Any

from olmrl import storage
from olmrl.bench import load_case
from olmrl.data.render import BadPage, page_count
from olmrl.markup import front_matter
from olmrl.progress import track
from olmrl.synth.derived import candidates
from olmrl.synth.derived.candidates import Candidate
from olmrl.synth.derived.categories import file_of
from olmrl.synth.derived.column_order import across_columns
from olmrl.synth.derived.furniture import count_repeats, furniture, margin_lines
from olmrl.synth.proof.html_truth import read_html
from olmrl.synth.proof.layer import TextLayer, page_objection, test_objection
from olmrl.synth.proof.reading import Reading, read, words
from olmrl.synth.proof.tables import table_objection

MOST_PER_PAGE = {
    "present": 10,
    "absent": 6,
    "order": 6,
    "table": 10,
    "math": 10,
    "format": 5,
    "footnote": 4,
    "baseline": 1,
}
"""Maximum tests of one type on one page."""

_ACROSS = 3
"""Most order candidates of a page that go from one column to the next."""
_TRIED_PER_TEST = 4
"""Candidates tried for each test that may be kept."""


@dataclass(frozen=True)
class TruePage:
    """A page whose truth is known."""

    name: str
    """Path of the PDF below PAIRS, without suffix."""
    pdf_path: str
    truth: str
    """Front matter (if the source has it) and body."""
    body: str
    furniture: tuple[str, ...] = ()
    """Running headers and footers that an HTML source marks as such."""
    margins: tuple[str, ...] = ()
    """Lines in the margins of the PDF."""


@dataclass
class Derived:
    """What one page yielded."""

    name: str
    tests: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """The test file of each test, by its id."""
    rejected: Counter[str] = field(default_factory=Counter)
    """How many candidates were rejected, by `type: reason`."""


# -- reading the pages


def find_pages(root: str) -> tuple[list[TruePage], dict[str, str]]:
    """Read all pages of a folder.

    Returns:
        The pages sorted by name, and why each other .md or .html file is not a page.

    Raises:
        ValueError: no such folder, or no page in it.
    """
    files = set(storage.list_files(root))
    stems = sorted({_stem(path) for path in files if path.endswith((".md", ".html"))})
    pages, skipped = [], {}
    for stem in track(stems, "reading pages", len(stems)):
        name = os.path.relpath(stem, root)
        try:
            pages.append(_read_page(stem, name, files))
        except BadPage as error:
            skipped[name] = error.reason
        except ValueError as error:
            skipped[name] = str(error)
    if not pages:
        reasons = "; ".join(f"{name}: {why}" for name, why in islice(skipped.items(), 3))
        raise ValueError(
            f"{root}: no usable page (X.pdf with X.md or X.html) in it"
            + (f" ({reasons})" if reasons else "")
        )
    return pages, skipped


def _stem(path: str) -> str:
    return path.rpartition(".")[0]


def _read_page(stem: str, name: str, files: set[str]) -> TruePage:
    pdf = f"{stem}.pdf"
    if pdf not in files:
        raise ValueError("there is no PDF next to it")
    if page_count(pdf) != 1:
        raise ValueError("the PDF has more than one page")
    marked: tuple[str, ...] = ()
    truth = None
    if f"{stem}.html" in files:
        page = read_html(storage.read_document(f"{stem}.html"))
        truth, marked = page.markdown, page.furniture
    if f"{stem}.md" in files:
        truth = storage.read_document(f"{stem}.md")
    assert truth is not None
    return TruePage(
        name=PurePosixPath(name).as_posix(),
        pdf_path=pdf,
        truth=truth,
        body=front_matter.strip(truth).strip(),
        furniture=marked,
        margins=() if marked else margin_lines(pdf),
    )


# -- deriving the tests


def derive_page(
    page: TruePage,
    *,
    seed: int,
    most: int,
    pages_with: Mapping[str, int],
    repeats: Mapping[str, int],
    prove: bool = False,
) -> Derived:
    """Derive the tests of one page.

    Args:
        page: The page.
        seed: Seed of the run; the page's own stream also depends on its name.
        most: Maximum number of tests to keep.
        pages_with: On how many pages of the set each word occurs.
        repeats: On how many pages of the set each margin line occurs.
        prove: Keep only what the PDF itself shows (`proof`); for pages set from their truth.
    """
    rng = random.Random(f"{seed}/{page.name}")
    derived = Derived(page.name)
    layer = TextLayer.of(page.pdf_path) if prove else None
    if layer is not None:
        reason = page_objection(layer, page.truth, page.furniture)
        if reason := reason or table_objection(layer, page.body):
            derived.rejected[f"page: {reason}"] += 1
            return derived
    kept: dict[str, list[dict[str, Any]]] = {}
    for kind, proposals in _propose(page, rng, pages_with, repeats, layer).items():
        kept[kind] = list(_verified(kind, proposals, page, derived, layer))
    rounds = max(map(len, kept.values()), default=0)
    spread = [kept[kind][i] for i in range(rounds) for kind in kept if i < len(kept[kind])]
    derived.tests = spread[:most]
    derived.files = {test["id"]: file_of(test, layer) for test in derived.tests}
    if len(spread) > most:
        derived.rejected["all: over the limit of tests per page"] += len(spread) - most
    return derived


def _propose(
    page: TruePage,
    rng: random.Random,
    pages_with: Mapping[str, int],
    repeats: Mapping[str, int],
    layer: TextLayer | None,
) -> dict[str, Iterator[Candidate]]:
    body = page.body
    reading: Reading = read(body)
    lines = page.furniture or furniture(page.margins, body, repeats)
    stream = partial(random.Random, rng.random())
    return {
        "baseline": candidates.baseline(body),
        "present": candidates.present(reading, stream(), pages_with),
        "absent": candidates.absent(body, lines),
        "order": chain(
            islice(across_columns(reading, layer, stream()) if layer else (), _ACROSS),
            candidates.order(reading, stream()),
        ),
        "table": candidates.table(body, reading, stream()),
        "math": candidates.math(body, reading, stream()),
        "format": candidates.format_(body, reading, stream()),
        "footnote": candidates.footnote(body, stream()),
    }


def _verified(
    kind: str,
    proposals: Iterator[Candidate],
    page: TruePage,
    derived: Derived,
    layer: TextLayer | None,
) -> Iterator[dict[str, Any]]:
    """Keep candidates that pass on the truth, fail on its corruption and are not duplicates."""
    most, seen = MOST_PER_PAGE[kind], set()
    kept = 0
    for candidate in islice(proposals, most * _TRIED_PER_TEST):
        if kept == most:
            return
        content = json.dumps(candidate.test, sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(f"{page.name}\n{content}".encode()).hexdigest()[:8]
        test = {
            "pdf": f"{_pdf_name(page.name)}.pdf",
            "page": 1,
            "id": f"{_pdf_name(page.name).replace('/', '_')}_{kind}_{digest}",
            **candidate.test,
        }
        reason = "duplicate" if content in seen else _objection(test, candidate, page.body)
        if not reason and layer is not None:
            reason = test_objection(layer, test)
        seen.add(content)
        if reason:
            derived.rejected[f"{kind}: {reason}"] += 1
            continue
        kept += 1
        yield test


def _objection(test: dict[str, Any], candidate: Candidate, body: str) -> str:
    try:
        case = load_case(test)
    except ValueError:
        return "not a valid test (e.g. a formula that does not render)"
    if not case.run(body).passed:
        return "fails on the truth"
    if case.run(candidate.corrupted).passed:
        return "passes on the corruption"
    return ""


def _pdf_name(name: str) -> str:
    """Path below pdfs/: in a sub-folder, without `_page`, where reference lookup would split."""
    path = PurePosixPath(name)
    parent = path.parent if path.parent.name else PurePosixPath("pages")
    return str(parent / re.sub(r"_page(?=\d)", "-page", path.name))


# -- the whole folder


def derive_folder(
    pairs: str,
    out: str,
    *,
    seed: int = 0,
    most: int = 40,
    workers: int = 1,
    prove: bool = False,
) -> dict[str, Any]:
    """Derive a bench folder; see the module docstring.

    Args:
        pairs: Folder of pages.
        out: Folder to write; must not be a bench folder already.
        seed: Seed of everything.
        most: Maximum tests per page.
        workers: Number of processes.
        prove: See `derive_page`.

    Returns:
        The report, as written to derive_report.json.

    Raises:
        ValueError: bad folders or numbers, or not a single test.
    """
    if most < 1 or workers < 1:
        raise ValueError(f"--max-tests {most} and --workers {workers} must be at least 1")
    if storage.exists(storage.join(out, "pdfs")):
        raise ValueError(f"{out}: already holds a bench folder (pdfs/); choose another folder")
    pages, skipped = find_pages(pairs)
    pages_with = Counter(
        word for page in pages for word in {w for s in read(page.body).sentences for w in words(s)}
    )
    repeats = count_repeats([page.margins for page in pages])
    job = partial(
        derive_page, seed=seed, most=most, pages_with=pages_with, repeats=repeats, prove=prove
    )
    derived = list(track(_map(job, pages, workers), "deriving tests", len(pages)))
    if not any(d.tests for d in derived):
        raise ValueError(f"{pairs}: none of its {len(pages)} pages yielded a test")
    _write(out, pages, derived)
    report = _report(derived, skipped)
    storage.write_json(storage.join(out, "derive_report.json"), report)
    return report


def _map(
    job: Callable[[TruePage], Derived], pages: Sequence[TruePage], workers: int
) -> Iterator[Derived]:
    if workers == 1:
        yield from map(job, pages)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(job, pages, chunksize=max(1, len(pages) // (8 * workers)))


def _write(out: str, pages: Sequence[TruePage], derived: Sequence[Derived]) -> None:
    for page, found in zip(pages, derived, strict=True):
        if not found.tests:
            continue
        name = _pdf_name(page.name)
        reference = storage.join(out, "claude_original", f"{name}_page1_pg1_repeat1.md")
        storage.write_bytes(
            storage.join(out, "pdfs", f"{name}.pdf"), storage.read_bytes(page.pdf_path)
        )
        storage.write_text(reference, page.truth)
    files: dict[str, list[dict[str, Any]]] = {}
    for found in derived:
        for test in found.tests:
            files.setdefault(found.files[test["id"]], []).append(test)
    for file, rows in files.items():
        storage.write_jsonl(storage.join(out, file), rows)


def _report(derived: Sequence[Derived], skipped: Mapping[str, str]) -> dict[str, Any]:
    per_type = Counter(test["type"] for d in derived for test in d.tests)
    rejected: Counter[str] = sum((d.rejected for d in derived), Counter())
    barren = {d.name: _why_barren(d) for d in derived if not d.tests}
    return {
        "pages": sum(bool(d.tests) for d in derived),
        "tests": sum(per_type.values()),
        "per_type": dict(per_type.most_common()),
        "rejected_candidates": dict(rejected.most_common()),
        "pages_without_tests": {**skipped, **barren},
        "tests_per_page": {d.name: len(d.tests) for d in derived if d.tests},
        "rejected_per_page": {
            d.name: dict(d.rejected.most_common()) for d in derived if d.rejected
        },
    }


def _why_barren(derived: Derived) -> str:
    if not derived.rejected:
        return "its truth has nothing to test"
    return "; ".join(f"{count} x {reason}" for reason, count in derived.rejected.most_common(3))
