"""What `python -m olmrl.bench score` and `compare` do, with their console output and report."""

from __future__ import annotations

import argparse
import io
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from olmrl import storage
from olmrl.bench.case import CaseError
from olmrl.bench.evaluate import (
    BenchResult,
    Comparison,
    TestResult,
    compare,
    evaluate,
    find_outputs,
)
from olmrl.bench.folder import BenchFolder, load_folder, untested_pages
from olmrl.bench.statistics import holm
from olmrl.data.render import render_page
from olmrl.printable import on_one_line, printable
from olmrl.report import html

PICTURE_SIDE = 1024
"""Longest side of the page images in the report, px."""


def _load(options: argparse.Namespace) -> BenchFolder:
    folder = load_folder(
        options.folder,
        compat=options.compat,
        files=options.files,
        skip_invalid=options.skip_invalid,
    )
    whole = options.folder.is_dir() and not options.files
    if whole and not options.force:
        missing = untested_pages(folder, not options.skip_baseline)
        if missing:
            raise CaseError(
                f"{folder.path}: {len(missing)} pages have no test, the first is {missing[0]}; "
                "--force scores the others"
            )
    return folder


def _evaluate(options: argparse.Namespace, folder: BenchFolder, candidate: str) -> BenchResult:
    return evaluate(
        folder,
        candidate,
        compat=options.compat,
        add_baselines=not options.skip_baseline,
        samples=options.bootstrap_samples,
        confidence=options.confidence,
        seed=options.seed,
    )


def score(options: argparse.Namespace) -> int:
    """Score a candidate; returns the exit code, 1 when outputs are missing."""
    console = Console()
    folder = _load(options)
    result = _evaluate(options, folder, options.candidate)
    _print_result(result, console)
    if options.json:
        storage.write_text(options.json, json.dumps(result.to_json(), indent=1))
    if options.html:
        storage.write_html(options.html, report(folder, result, options.max_pages))
    return 1 if result.errors else 0


def compare_all(options: argparse.Namespace) -> int:
    """Compare a candidate with others; returns the exit code, 1 when outputs are missing."""
    console = Console()
    names = [options.candidate, *options.against]
    folder = _load(options)
    results = [_evaluate(options, folder, name) for name in names]
    comparisons = [
        compare(
            results[0], other, permutations=options.permutations,
            samples=options.bootstrap_samples, seed=options.seed,
        )
        for other in results[1:]
    ]  # fmt: skip
    header, rows = _comparison_rows(results, comparisons)
    table = Table(*(Column(name, overflow="fold") for name in header))
    for row in rows:
        table.add_row(
            *map(Text, map(printable, row)), style="bold" if row[0].startswith("mean") else None
        )
    console.print(table)
    said = _in_words(comparisons)
    for line in said:
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
    for result in results:
        _print_messages("error", result.errors, console)
    if options.json:
        storage.write_json(options.json, _comparisons_json(results, comparisons))
    if options.html:
        title = f"olmOCR-bench: {names[0]} against {', '.join(names[1:])}"
        table_section = html.Table("Scores and differences", header, rows)
        sections = (table_section, html.Text("Tests", said))
        page = html.page(title, f"mode {results[0].mode}", sections)
        storage.write_html(options.html, page)
    return 1 if any(result.errors for result in results) else 0


def _comparison_rows(
    results: Sequence[BenchResult], comparisons: Sequence[Comparison]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Header and rows: for each category its score with the first candidate, then the others'."""
    first = results[0]
    level = f"{first.confidence:.0%} interval"
    header = ("category", "candidate", "score", f"{first.candidate} leads by", level)
    rows: list[tuple[str, ...]] = []
    for name, category in first.categories.items():
        rows.append((name, first.candidate, f"{category.score:.1%}", "", ""))
        for other, found in zip(results[1:], comparisons, strict=True):
            score = other.categories[name].score
            rows.append(
                _difference("", other, score, found.categories[name], found.intervals[name])
            )
    rows.append(("mean of categories", first.candidate, f"{first.score:.1%}", "", ""))
    for other, found in zip(results[1:], comparisons, strict=True):
        rows.append(_difference("", other, other.score, found.difference, found.interval))
    return header, tuple(rows)


def _difference(
    name: str, other: BenchResult, score: float, lead: float, interval: tuple[float, float]
) -> tuple[str, ...]:
    low, high = interval
    return (name, other.candidate, f"{score:.1%}", f"{lead:+.1%}", f"{low:+.1%} to {high:+.1%}")


def _in_words(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    adjusted = holm([found.p_value for found in comparisons])
    several = len(comparisons) > 1
    return tuple(
        f"{found.first} against {found.second}: p = {found.p_value:.4f} (paired permutation test"
        + (f"; {p_value:.4f} by Holm, for {len(comparisons)} comparisons" if several else "")
        + f"); {len(found.only_first)} tests pass only in {found.first}, "
        f"{len(found.only_second)} only in {found.second}"
        for found, p_value in zip(comparisons, adjusted, strict=True)
    )


def _comparisons_json(
    results: Sequence[BenchResult], comparisons: Sequence[Comparison]
) -> dict[str, Any]:
    adjusted = holm([found.p_value for found in comparisons])
    return {
        **asdict(comparisons[0]),  # readers of a comparison of two find it here
        "mode": results[0].mode,
        "candidates": [
            {
                "candidate": result.candidate,
                "score": result.score,
                "interval": list(result.interval),
                "categories": {name: c.score for name, c in result.categories.items()},
                "errors": list(result.errors),
            }
            for result in results
        ],
        "comparisons": [
            asdict(found) | {"p_value_holm": p_value}
            for found, p_value in zip(comparisons, adjusted, strict=True)
        ],
    }


def _print_result(result: BenchResult, console: Console) -> None:
    table = Table("category", "score", "passed", f"{result.confidence:.0%} interval")
    for name, cells in _score_rows(result):
        table.add_row(
            Text(printable(name)), *cells, style="bold" if name.startswith("mean") else None
        )
    console.print(table)
    kinds = ", ".join(f"{n} {s:.1%}" for n, s in result.types.items())
    console.print(f"by type: {kinds}", markup=False, soft_wrap=True)
    _print_messages("rejected", result.rejected, console)
    _print_messages("error", result.errors, console)
    if result.unused and result.errors:
        _print_messages("belongs to no tested page", result.unused, console)
    if result.errors:
        console.print(f"FAILED: {len(result.errors)} outputs are missing or unreadable")


def _print_messages(label: str, messages: Sequence[str], console: Console) -> None:
    for message in messages[:10]:
        line = f"{label}: {on_one_line(message)}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if len(messages) > 10:
        console.print(f"... {len(messages)} in all")


def _score_rows(result: BenchResult) -> list[tuple[str, tuple[str, str, str]]]:
    rows = [
        (name, (f"{c.score:.1%}", f"{c.passed}/{c.total}", _interval_text(c.interval)))
        for name, c in result.categories.items()
    ]
    passed = sum(test.passed for test in result.tests)
    overall = (f"{result.score:.1%}", f"{passed}/{len(result.tests)}")
    return [*rows, ("mean of categories", (*overall, _interval_text(result.interval)))]


def _interval_text(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.1%} - {interval[1]:.1%}"


def report(folder: BenchFolder, result: BenchResult, max_pages: int) -> str:
    """A self-contained HTML page: scores, then each page with failed tests next to its image."""
    failed: dict[tuple[str, int], list[TestResult]] = defaultdict(list)
    for test in result.tests:
        if not test.passed:
            failed[test.pdf, test.page].append(test)
    header = ("category", "score", "passed", f"{result.confidence:.0%} interval")
    sections: list[Any] = [
        html.Table("Scores", header, tuple((n, *cells) for n, cells in _score_rows(result))),
        html.Table("By test type", ("type", "score"), tuple(result.types.items())),
    ]
    for title, messages in (
        ("Errors", result.errors),
        ("Tests left out", result.rejected),
        ("Outputs that belong to no tested page", result.unused),
    ):
        if messages:
            sections.append(html.Text(title, tuple(messages[:200])))
    for (pdf, page), tests in list(failed.items())[:max_pages]:
        sections.append(_page_section(folder, result.candidate, pdf, page, tests))
    subtitle = f"{len(failed)} pages with failed tests, mode {result.mode}"
    return html.page(f"olmOCR-bench: {result.candidate}", subtitle, sections)


def _page_section(
    folder: BenchFolder, candidate: str, pdf: str, page: int, tests: list[TestResult]
) -> html.PageCard:
    outputs = find_outputs(folder.path / candidate, pdf, page)
    text = outputs[0].read_text("utf-8-sig", errors="replace") if outputs else "(no output)"
    rows = {
        (file, case.id): case.to_row()
        for of_pdf in folder.pages
        if of_pdf.pdf == pdf
        for file, case in zip(of_pdf.files, of_pdf.cases, strict=True)
    }
    checks = tuple(
        (False, _describe(test, rows.get((test.category, test.id), {})), test.explanation)
        for test in tests
    )
    try:
        image: str | None = _picture(folder.path / "pdfs" / pdf, page)
    except ValueError as error:
        image, text = None, f"({error})\n\n{text}"
    transcript = html.Transcription(f"{len(tests)} failed tests", text, checks=checks)
    return html.PageCard(f"{pdf}, page {page}", image, None, (transcript,))


def _describe(test: TestResult, row: dict[str, Any]) -> str:
    hidden = ("type", "pdf", "page", "id", "checked", "url")
    fields = {k: v for k, v in row.items() if k not in hidden and v not in ("", None, False, 0)}
    words = ", ".join(f"{name} {value!r}" for name, value in fields.items())
    return f"{test.category} {test.id} ({test.type}): {words}"


def _picture(pdf_path: Path, page: int) -> str:
    stream = io.BytesIO()
    pixels = render_page(str(pdf_path), page, PICTURE_SIDE)
    Image.fromarray(pixels).save(stream, format="WEBP", quality=60)
    return html.data_url(stream.getvalue(), "image/webp")
