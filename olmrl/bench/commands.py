"""What `python -m olmrl.bench score` and `compare` do, with their console output and report."""

from __future__ import annotations

import argparse
import io
import json
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from olmrl.bench.case import CaseError
from olmrl.bench.evaluate import BenchResult, TestResult, compare, evaluate, find_outputs
from olmrl.bench.folder import BenchFolder, load_folder, untested_pages
from olmrl.data.render import render_page
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
        _write(options.json, json.dumps(result.to_json(), indent=1))
    if options.html:
        _write(options.html, report(folder, result, options.max_pages))
    return 1 if result.errors else 0


def compare_two(options: argparse.Namespace) -> int:
    """Compare two candidates; returns the exit code, 1 when outputs are missing."""
    console = Console()
    folder = _load(options)
    first = _evaluate(options, folder, options.candidate)
    second = _evaluate(options, folder, options.against)
    comparison = compare(first, second, permutations=options.permutations, seed=options.seed)
    table = Table("category", first.candidate, second.candidate, "difference")
    for name, difference in comparison.categories.items():
        scores = (first.categories[name].score, second.categories[name].score)
        table.add_row(name, *(f"{s:.1%}" for s in scores), f"{difference:+.1%}")
    overall = (f"{first.score:.1%}", f"{second.score:.1%}", f"{comparison.difference:+.1%}")
    table.add_row("mean of categories", *overall, style="bold")
    console.print(table)
    console.print(
        f"p = {comparison.p_value:.4f} (paired permutation test); "
        f"{len(comparison.only_first)} tests pass only in {first.candidate}, "
        f"{len(comparison.only_second)} only in {second.candidate}"
    )
    if options.json:
        _write(options.json, json.dumps(asdict(comparison), indent=1))
    return 1 if first.errors or second.errors else 0


def _print_result(result: BenchResult, console: Console) -> None:
    table = Table("category", "score", "passed", f"{result.confidence:.0%} interval")
    for name, cells in _score_rows(result):
        table.add_row(name, *cells, style="bold" if name.startswith("mean") else None)
    console.print(table)
    console.print("by type: " + ", ".join(f"{n} {s:.1%}" for n, s in result.types.items()))
    for label, messages in (("rejected", result.rejected), ("error", result.errors)):
        for message in messages[:10]:
            console.print(f"{label}: {message}", markup=False, highlight=False)
        if len(messages) > 10:
            console.print(f"... {len(messages)} in all")
    if result.errors:
        console.print(f"FAILED: {len(result.errors)} outputs are missing or unreadable")


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


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


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
    for title, messages in (("Errors", result.errors), ("Invalid tests", result.rejected)):
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
    text = outputs[0].read_text("utf-8", errors="replace") if outputs else "(no output)"
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
