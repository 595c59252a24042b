"""Judge the tests of a bench folder in the browser, and write the verdicts into the folder.

    review-tests BENCH OUTPUT              a page, OUTPUT/index.html: a accepts, r rejects
    review-tests BENCH --marks marks.jsonl what the page saved, into the tests' `checked`

The page needs no server. Rejected tests count no longer, neither in training nor in scores; a mark
that was taken back makes a test unchecked again. --marks also takes the marks of a sheet of
`olmrl synth`: a mark on a page goes to all its tests that have none of their own.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from olmrl import storage
from olmrl.arguments import positive
from olmrl.data.page import PageSource, bench_files, read_reference, scan_bench
from olmrl.data.render import BadPage
from olmrl.mix import files
from olmrl.mix.pdf import PageImage
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.progress import ProgressDisplay
from olmrl.mix.review_marks import Mark, error_rate, last_marks
from olmrl.mix.sheet import SheetPage, mark_id, write_sheet
from olmrl.suffixes import cut_suffix
from olmrl.types import REJECTED

SIDE = 1000
"""Longer side of the displayed page, in pixels."""

CHECKED = {"good": "verified", "bad": REJECTED, "none": None}
"""What a verdict makes of a test's `checked`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("bench", help="bench folder (local or s3://)")
    parser.add_argument("output", nargs="?", help="local folder for the page")
    parser.add_argument("--marks", action="append", default=[], help="marks.jsonl to write down")
    parser.add_argument("--sample", type=positive, default=200, help="most pages to show")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--files", help="regular expression on the names of test files")
    parser.add_argument("--unchecked", action="store_true", help="only tests without a verdict")


def run(options: argparse.Namespace) -> int:
    """Write marks down, then the page; see the module."""
    if not options.output and not options.marks:
        raise ValueError("nothing to do: give OUTPUT for the page, or --marks")
    if options.output:
        check_output(options.output, options.bench)
    scan_bench(options.bench, with_rejected=True)
    show = ProgressDisplay("review-tests", None)
    try:
        for path in options.marks:
            show.say(write_down(options.bench, path))
        if options.output:
            show.say(write_page(options))
    finally:
        show.close()
    return 0


# -- the page


def check_output(output: str, bench: str) -> None:
    """Refuse a folder that the page cannot be written to.

    Raises:
        ValueError: it is remote, the bench folder itself, or cannot be made.
    """
    if storage.is_remote(output):
        raise ValueError(f"{output}: the page needs a local folder")
    if Path(output).resolve() == Path(bench).resolve():
        raise ValueError(f"{output}: the page needs a folder of its own")
    storage.check_target(output)


def write_page(options: argparse.Namespace) -> str:
    """Write the page; returns what to tell."""
    found = scan_bench(options.bench, options.files, with_rejected=True)
    pages = [page for page in (_wanted(page, options.unchecked) for page in found) if page.tests]
    if not pages:
        raise ValueError(f"{options.bench}: every test has a verdict; leave out --unchecked")
    if options.sample < len(pages):
        chosen = random.Random(options.seed).sample(range(len(pages)), options.sample)
        pages = [pages[number] for number in sorted(chosen)]
    tests = sum(len(page.tests) for page in pages)
    out = Path(options.output)
    heading = f"{tests} tests on {len(pages)} of {len(found)} pages"
    unseen: list[str] = []
    with PdfPool(1) as pool:
        shown = (_sheet_page(page, pool, unseen) for page in pages)
        write_sheet(shown, out, heading, judged="tests", marks=dict(_marks(pages)))
    if len(unseen) == len(pages):
        raise ValueError(f"{options.bench}: no usable PDF in pdfs/; the first: {unseen[0]}")
    hidden = f" ({len(unseen)} pages without a picture)" if unseen else ""
    return f"{heading}{hidden}: open {out / 'index.html'}"


def _wanted(page: PageSource, unchecked: bool) -> PageSource:
    """The page with the tests to judge."""
    both = zip(page.tests, page.test_files, strict=True)
    kept = [(test, file) for test, file in both if not (unchecked and test.get("checked"))]
    tests, test_files = tuple(t for t, _ in kept), tuple(f for _, f in kept)
    return replace(page, tests=tests, test_files=test_files)


def _marks(pages: Sequence[PageSource]) -> Iterator[tuple[str, Mark]]:
    """What `checked` says already."""
    verdicts = {checked: verdict for verdict, checked in CHECKED.items() if checked}
    for page in pages:
        for test, file in zip(page.tests, page.test_files, strict=True):
            if test.get("checked") in verdicts:
                yield mark_id(file, test["id"]), Mark(verdicts[test["checked"]], "")


def _sheet_page(page: PageSource, pool: PdfPool, unseen: list[str]) -> SheetPage:
    """A page to show; what cannot be read is said instead, and a missing picture also counted."""
    failed = []
    render = truth = None
    try:
        made: PageImage = pool.call("page_image", page.pdf_path, page.page_number, SIDE, "webp")
        render = made.data
    except BadPage as bad:
        failed.append(bad.reason)
        unseen.append(str(bad))
    try:
        truth = read_reference(page)
    except BadPage as bad:
        failed.append(bad.reason)
    return SheetPage(
        page.page_id,
        render=render,
        truth=truth,
        tests=page.tests,
        test_files=page.test_files,
        failed_checks=tuple(failed),
    )


# -- the verdicts


def write_down(bench: str, path: str) -> str:
    """Write the verdicts of a file of marks into the tests; returns what to tell.

    Raises:
        ValueError: a row is not a mark, or a mark names nothing in the folder (nothing is written).
    """
    marks = last_marks(path)
    changed: dict[str, bytes] = {}
    named: set[str] = set()
    count: Counter[str] = Counter()
    for file in bench_files(bench):
        before = storage.read_bytes(file)
        after = b"\n".join(_judged(before, file, marks, named, count))
        if after != before:
            changed[file] = after
    unknown = [name for name in marks if name not in named]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise ValueError(f"{path}: {bench} has no test or page {unknown[0]!r}{more}")
    for file, data in changed.items():
        files.write(file, data, durable=True)
    good, bad = count["good"], count["bad"]
    share, low, high = error_rate(bad, good + bad)
    return (
        f"{path}: {good} tests verified, {bad} rejected ({share:.1%}; 95 %: {low:.1%} to "
        f"{high:.1%}), {count['none']} taken back; {len(changed)} files changed"
    )


def _judged(
    data: bytes, file: str, marks: dict[str, Mark], named: set[str], count: Counter[str]
) -> Iterator[bytes]:
    """The lines of a test file, those of judged tests with their verdict; others as they were.

    Args:
        data: The file.
        file: Its path.
        marks: By id.
        named: Ids that were found are added here.
        count: Verdicts are counted here.
    """
    at = dict(storage.jsonl_lines(data))
    for number, line in enumerate(data.split(b"\n"), start=1):
        if number not in at:
            yield line
            continue
        row = storage.json_value(at[number], f"{file}, line {number}")
        names = [name for name in _names(file, row) if name in marks]
        named.update(names)
        if not names:
            yield line
            continue
        verdict = marks[names[0]].verdict
        count[verdict] += 1
        yield line if row.get("checked") == CHECKED[verdict] else _line(row, verdict, line)


def _names(file: str, row: dict[str, Any]) -> list[str]:
    """Ids under which a test is marked, its own first: itself, and its page in two ways."""
    page = cut_suffix(row["pdf"], ".pdf")
    own = mark_id(file.rpartition("/")[2], row["id"])
    return [own, page, page.removeprefix("pages/")]  # synth's own folder below pdfs/


def _line(row: dict[str, Any], verdict: str, line: bytes) -> bytes:
    value = storage.json_bytes({**row, "checked": CHECKED[verdict]}).rstrip(b"\n")
    return value + (b"\r" if line.endswith(b"\r") else b"")
