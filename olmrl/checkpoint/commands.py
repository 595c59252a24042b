"""What `python -m olmrl.checkpoint` does: each verb with its console output."""

from __future__ import annotations

import argparse

import numpy as np
import torch
import transformers
from rich.console import Console
from rich.table import Table
from rich.text import Text

from olmrl.data.encode import Encoder, EncoderSpec
from olmrl.evaluation.parity_texts import greedy_completions
from olmrl.export import fp8, hf, parity
from olmrl.export.emulate import ProbedModel
from olmrl.export.samples import CalibrationPages, PageTokens, load_pages
from olmrl.export.soup import soup
from olmrl.export.weights import ModelFolder, whole_source
from olmrl.printable import printable
from olmrl.progress import track, waiting

CONSOLE = Console(soft_wrap=True)


def run(options: argparse.Namespace) -> int:
    """Run the verb; returns the exit code.

    Raises:
        ValueError: a folder, step, recipe or weight is wrong.
    """
    transformers.utils.logging.disable_progress_bar()
    verbs = {"hf": run_hf, "soup": run_soup, "fp8": run_fp8, "parity": run_parity}
    return verbs[options.verb](options)


def _say(line: str) -> None:
    CONSOLE.print(printable(line), markup=False, highlight=False)


def run_hf(options: argparse.Namespace) -> int:
    """Export a run."""
    step = hf.export(
        options.run_dir,
        options.out,
        step=options.step,
        best=options.best,
        base=options.base,
        dtype=options.dtype,
    )
    _say(f"step {step} of {options.run_dir} -> {options.out}")
    return 0


def run_soup(options: argparse.Namespace) -> int:
    """Average models."""
    distances = soup(options.models, options.out, options.weights)
    for source, distance in distances.items():
        _say(f"{source}: relative distance to the average {distance:.2e}")
    _say(f"average of {len(options.models)} models -> {options.out}")
    return 0


def run_fp8(options: argparse.Namespace) -> int:
    """Quantise a model."""
    pages = None
    if options.pages:
        pages = CalibrationPages(
            options.pages,
            options.limit,
            options.longest_side,
            options.max_tokens,
            options.prompt,
        )
    report = fp8.quantise(
        options.model,
        options.out,
        options.recipe,
        pages=pages,
        dtype=options.dtype,
        say=_say,
    )
    table = Table("tensor", "relative error")
    for name, error in report.errors.items():
        table.add_row(Text(printable(name)), f"{error:.4f}")
    CONSOLE.print(table)
    before, after = report.bytes_before / 2**20, report.bytes_after / 2**20
    CONSOLE.print(f"{report.recipe}: {before:.1f} MiB -> {after:.1f} MiB ({after / before:.0%})")
    if report.gap:
        CONSOLE.print(
            f"log-prob gap to {options.dtype} over {report.gap.tokens} tokens: "
            f"mean {report.gap.mean:.4f}, largest {report.gap.largest:.3f}; "
            f"same greedy choice {report.gap.same_top:.1%}"
        )
    return 0


def run_parity(options: argparse.Namespace) -> int:
    """Compare transformers and vLLM; exit code 1 if the mean gap exceeds --max-mean-gap."""
    model = whole_source(options.model)
    ModelFolder(model).check_fits()
    encoder = Encoder(EncoderSpec(model, prompt=options.prompt))
    rendered = load_pages(options.pages, options.limit, options.longest_side, _say)
    pages = [encoder.encode_page(page) for page in rendered]
    with waiting("reading pages with vLLM"):
        completions = greedy_completions(model, pages, options.max_tokens, options.dtype)
    with waiting("loading the model"):
        probe = ProbedModel(model, getattr(torch, options.dtype))
    scored = []
    pairs = zip(pages, completions, strict=True)
    for page, completion in track(pairs, "scoring pages", len(pages)):
        sample = PageTokens(page, completion.token_ids.astype(np.int64))
        scored.append(probe.score(sample, encoder.banned_ids))
    found = parity.judge(
        [page.page_id for page in pages],
        completions,
        scored,
        lambda ids: str(encoder.tokenizer.decode(list(ids))),
        worst=options.worst,
    )
    _print_parity(found)
    if options.max_mean_gap is not None and found.mean_gap > options.max_mean_gap:
        CONSOLE.print(f"mean gap {found.mean_gap:.5f} exceeds {options.max_mean_gap}")
        return 1
    return 0


def _print_parity(found: parity.Parity) -> None:
    table = Table("page", "tokens", "greedy match", "first mismatch", "mean gap", "largest gap")
    table.columns[0].overflow = "fold"
    for page in found.pages:
        table.add_row(
            Text(printable(page.page_id)),
            str(page.tokens),
            f"{page.matches / max(page.tokens, 1):.1%}",
            "-" if page.first_mismatch is None else str(page.first_mismatch),
            f"{page.mean_gap:.5f}",
            f"{page.largest_gap:.4f}",
        )
    CONSOLE.print(table)
    worst = Table(
        "worst tokens: page", "position", "vLLM chose", "transformers would", "vLLM", "hf"
    )
    worst.columns[0].overflow = "fold"
    for token in found.worst:
        worst.add_row(
            Text(printable(token.page_id)),
            str(token.position),
            Text(repr(token.token)),
            Text(repr(token.preferred)),
            f"{token.vllm:.4f}",
            f"{token.transformers:.4f}",
        )
    CONSOLE.print(worst)
    CONSOLE.print(
        f"greedy match {found.match_rate:.2%}; |log-prob gap| mean {found.mean_gap:.5f}, "
        f"largest {found.largest_gap:.4f}; above {parity.OUTLIER}: {found.outliers:.2%} of tokens"
    )
