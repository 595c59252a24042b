"""Unit tests from truth, so that GRPO can use any pages.

PAIRS holds page pairs (X.pdf + X.md) or HTML pages (X.pdf + X.html), in any sub-folders.
OUT becomes a bench folder: pdfs/, claude_original/ with the truth, one JSONL file per
test type, and derive_report.json, which says what was derived and why pages yielded nothing.

The same seed and pages give the same tests, whatever the order or number of processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

from olmrl import storage
from olmrl.mix import files
from olmrl.progress import track
from olmrl.synth.derived.furniture import count_repeats
from olmrl.synth.derived.page_tests import Derived, derive_page, pdf_name
from olmrl.synth.derived.true_pages import TruePage, find_pages
from olmrl.synth.proof.reading import read, words


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
    pages, skipped = find_pages(pairs)
    # tests are written last: pages of this folder without any are those of a call that broke off
    if storage.exists(storage.join(out, "pdfs")) and not _is_begun(out, pages):
        raise ValueError(f"{out}: already holds a bench folder (pdfs/); choose another folder")
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


def _is_begun(out: str, pages: Sequence[TruePage]) -> bool:
    """Whether a bench folder has pages of these, no others, and no tests."""
    if any("/" not in files.relative(path, out) for path in files.listing(out, ".jsonl")):
        return False
    root = storage.join(out, "pdfs")
    there = {files.relative(path, root) for path in files.listing(root, "")}
    return bool(there) and there <= {f"{pdf_name(page.name)}.pdf" for page in pages}


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
        name = pdf_name(page.name)
        reference = storage.join(out, "claude_original", f"{name}_page1_pg1_repeat1.md")
        storage.write_bytes(
            storage.join(out, "pdfs", f"{name}.pdf"), storage.read_bytes(page.pdf_path)
        )
        storage.write_text(reference, page.truth)
    tests: dict[str, list[dict[str, Any]]] = {}
    for found in derived:
        for test in found.tests:
            tests.setdefault(found.files[test["id"]], []).append(test)
    for file, rows in tests.items():
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
