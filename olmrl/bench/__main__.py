"""`python -m olmrl.bench`: score a folder of markdown, or compare two.

python -m olmrl.bench score FOLDER --candidate NAME [--json FILE] [--html FILE]
python -m olmrl.bench compare FOLDER --candidate NAME --against OTHER
python -m olmrl.bench run FOLDER --model PATH [--candidate NAME] [--ladder] [--rotate]
"""

import argparse
import io
import json
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from olmrl.bench.case import CaseError
from olmrl.bench.evaluate import BenchResult, TestResult, compare, evaluate, find_outputs
from olmrl.bench.folder import BenchFolder, load_folder, untested_pages
from olmrl.cluster import start_ray
from olmrl.config.schema import RolloutConfig, SamplingConfig
from olmrl.data.encode import EncoderSpec
from olmrl.data.page import scan_bench
from olmrl.data.render import render_page
from olmrl.evaluation.transcribe import LADDER, TranscribeSettings, transcribe
from olmrl.report import html
from olmrl.run.console import quiet_libraries

PICTURE_SIDE = 1024
"""Longest side of the page images in the report, px."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code (1 when outputs are missing)."""
    options = _parser().parse_args(arguments)
    console = Console()
    try:
        code: int = options.run(options, console)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m olmrl.bench", description=__doc__)
    commands = parser.add_subparsers(required=True)
    score = commands.add_parser("score", help="score one candidate")
    score.add_argument("--html", type=Path, help="write a report with page images")
    score.add_argument("--max-pages", type=int, default=100, help="limit on failed pages shown")
    score.set_defaults(run=_score)
    versus = commands.add_parser("compare", help="compare two candidates")
    versus.add_argument("--against", required=True, help="the other candidate's folder name")
    versus.add_argument("--permutations", type=int, default=10_000)
    versus.set_defaults(run=_compare)
    made = commands.add_parser("run", help="transcribe with vLLM, then score")
    made.add_argument("--html", type=Path, help="write a report with page images")
    made.add_argument("--max-pages", type=int, default=100, help="limit on failed pages shown")
    made.add_argument("--model", required=True, help="Hugging Face name or folder")
    made.add_argument("--prompt", default="olmrl-v1", help="olmrl-v1, olmocr-v4 or file:PATH")
    made.add_argument("--longest-side", type=int, default=1288, help="pixels")
    made.add_argument("--max-tokens", type=int, default=8000, help="limit per transcription")
    made.add_argument("--max-model-len", type=int, default=16384)
    made.add_argument("--repeats", type=int, default=1, help="transcriptions per page")
    made.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    made.add_argument("--ladder", action="store_true", help="retry at rising temperatures")
    made.add_argument("--rotate", action="store_true", help="re-read rotated pages upright")
    made.add_argument("--workers", type=int, default=1, help="engines")
    made.add_argument("--engine", choices=("vllm", "hf"), default="vllm")
    made.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    made.add_argument(
        "--gpus", type=int, default=None, help="per engine; default: 1 if there is any"
    )
    made.add_argument("--kv-cache-gb", type=float, default=1.0, help="per engine, on CPU")
    made.set_defaults(run=_run)
    for command in (score, versus, made):
        command.add_argument("folder", type=Path, help="bench folder, or one of its JSONL files")
        command.add_argument(
            "--candidate", required=command is not made, help="name of the candidate's folder"
        )
        command.add_argument("--json", type=Path, help="write the result as JSON")
        command.add_argument("--compat", action="store_true", help="verdicts of the public bench")
        command.add_argument("--files", default="", help="regular expression on JSONL file names")
        command.add_argument(
            "--skip-invalid", action="store_true", help="leave out invalid tests and count them"
        )
        command.add_argument(
            "--force", action="store_true", help="score a folder with pages that have no test"
        )
        command.add_argument("--skip-baseline", action="store_true", help="no added baseline tests")
        command.add_argument("--bootstrap-samples", type=int, default=1000)
        command.add_argument("--confidence", type=float, default=0.95)
        command.add_argument("--seed", type=int, default=0)
    return parser


def _load(options: argparse.Namespace) -> BenchFolder:
    if not 0 < options.confidence < 1:
        raise ValueError(f"--confidence is {options.confidence}, must be between 0 and 1")
    if options.bootstrap_samples < 1:
        raise ValueError(f"--bootstrap-samples is {options.bootstrap_samples}, must be >= 1")
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


def _score(options: argparse.Namespace, console: Console) -> int:
    folder = _load(options)
    result = _evaluate(options, folder, options.candidate)
    _print_result(result, console)
    if options.json:
        _write(options.json, json.dumps(result.to_json(), indent=1))
    if options.html:
        _write(options.html, report(folder, result, options.max_pages))
    return 1 if result.errors else 0


def _run(options: argparse.Namespace, console: Console) -> int:
    """Transcribes the pages with the training engines, then scores them."""
    if not options.folder.is_dir():
        raise ValueError(f"{options.folder}: bench run needs a bench folder")
    options.candidate = options.candidate or Path(options.model.rstrip("/")).name
    sources = scan_bench(str(options.folder), options.files or None)
    temperatures = LADDER if options.ladder else (options.temperature,)
    quiet_libraries()
    gpus = start_ray(options.workers, options.gpus)
    rollout = RolloutConfig(
        engine=options.engine,
        workers=options.workers,
        dtype=options.dtype,
        max_model_len=options.max_model_len,
        tensor_parallel_size=max(1, gpus),
        enforce_eager=gpus == 0,
        kv_cache_gb=None if gpus else options.kv_cache_gb,
        sampling=SamplingConfig(max_tokens=options.max_tokens),
    )
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("pages", total=len(sources) * options.repeats)
        outcome = transcribe(
            EncoderSpec(options.model, options.prompt),
            rollout,
            sources,
            str(options.folder / options.candidate),
            TranscribeSettings(
                longest_side=options.longest_side,
                temperatures=temperatures,
                correct_rotation=options.rotate,
                repeats=options.repeats,
                seed=options.seed,
            ),
            use_gpu=gpus > 0,
            on_page=lambda done: progress.update(bar, completed=done.written + done.kept),
        )
    console.print(
        f"{outcome.written} pages transcribed, {outcome.kept} already there, "
        f"{len(outcome.invalid)} without a valid answer, {len(outcome.failed)} failed"
    )
    for page_id, reason in outcome.failed[:10]:
        console.print(f"failed: {page_id}: {reason}", markup=False, highlight=False)
    return _score(options, console)


def _compare(options: argparse.Namespace, console: Console) -> int:
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


if __name__ == "__main__":
    sys.exit(main())
