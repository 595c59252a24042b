"""What `synth from-pdfs` does with its options, and what it tells of the outcome."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from olmrl.mix import prices
from olmrl.mix.api import key_for
from olmrl.scratch import Scratch
from olmrl.synth.making import extras
from olmrl.synth.pdfs.estimate import dry_run
from olmrl.synth.pdfs.from_pdfs import from_pdfs
from olmrl.synth.pdfs.settings import Endpoint, Settings
from olmrl.synth.pdfs.source_pages import Choice

_SHOWN = 5


def run(options: argparse.Namespace) -> str:
    """Make the pages; returns what to print."""
    settings = _settings(options)
    if options.dry_run:
        with Scratch("from-pdfs") as folder:
            return dry_run(
                options.source, options.out, settings, options.batch, folder, options.workers
            )
    endpoint = Endpoint(
        options.base_url,
        key_for(options.base_url, options.api_key_env),
        batch=options.batch,
        concurrency=options.concurrency,
        tries=options.tries,
        timeout_s=options.timeout,
        poll_s=options.poll,
    )
    report = from_pdfs(options.source, options.out, settings, endpoint, options.workers)
    return "\n".join(_lines(options, report))


def _settings(options: argparse.Namespace) -> Settings:
    for name in ("max_usd", "timeout", "poll"):
        value = getattr(options, name)
        if value is not None and not value > 0:  # nor NaN
            raise ValueError(f"--{name.replace('_', '-')} {value:g} must be more than 0")
    return Settings(
        model=options.model,
        templates=options.templates,
        side=options.side,
        densify=options.densify,
        most_tests=options.max_tests,
        price=prices.parse(options.price) if options.price else None,
        max_usd=options.max_usd,
        max_tokens=options.max_tokens,
        choice=Choice(
            seed=options.seed,
            documents=options.documents,
            pages_per_pdf=options.pages_per_pdf,
            no_filter=options.no_filter,
            languages=options.languages,
            keep_forms=options.keep_forms,
            spam_share=options.spam_share,
            ray=options.ray,
        ),
        extras=extras.from_options(options),
    )


def _lines(options: argparse.Namespace, report: Mapping[str, Any]) -> Iterator[str]:
    kinds = ", ".join(f"{count} {kind}" for kind, count in report["per_type"].items())
    chosen, asked = report["chosen"], report["asked"]
    yield (
        f"{options.out}: {report['tests']} tests on {report['pages']} pages ({kinds}); "
        f"{chosen['pages']} pages of {chosen['documents']} PDFs were chosen, {report['made']} made"
    )
    tokens = f"{asked.get('prompt_tokens', 0):,.0f} tokens in, "
    tokens += f"{asked.get('completion_tokens', 0):,.0f} out"
    cost = f", ${asked['cost_usd']:.4f}" if "cost_usd" in asked else ", price unknown"
    yield f"  {asked.get('calls_made', 0):.0f} calls, {tokens}{cost}"
    for model in asked["answered_as"]:
        if model != options.model and not model.startswith(options.model + "-20"):
            yield f"  the endpoint answered as {model}, not as {options.model}"
    for name, why in _first(report["dropped"]):
        yield f"  no page from {name}: {why}"
    for name, why in _first(report["not_this_time"]):
        yield f"  not this time, the same command goes on: {name}: {why}"
    for name, why in _first(report["pages_without_tests"]):
        yield f"  no test from {name}: {why}"
    yield from extras.told(report)
    yield f"  look at {options.out}/sheet/index.html; all reasons are in report.json"


def _first(told: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return islice(told.items(), _SHOWN)
