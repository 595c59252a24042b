"""Pages that occur in benchmarks, by their text: what a model is measured on is not trained on."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from olmrl.markup import front_matter
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.verbs.decontaminate import read_bench
from olmrl.progress import waiting

THRESHOLD = 0.5
"""Share of common 8-word runs, as in `mix decontaminate`."""


def overlapping(
    truths: Iterable[tuple[str, Path]], benches: Sequence[str], workers: int
) -> dict[str, str]:
    """Which pages overlap with a bench page.

    Args:
        truths: Name and markdown file of each page.
        benches: Bench folders, local or remote.
        workers: Processes that read their PDFs.

    Returns:
        By name of the page, which bench page it shares how much with.

    Raises:
        ValueError: a folder is not a bench folder.
    """
    with waiting("reading the bench folders"), PdfPool(workers) as pool:
        index, *_ = read_bench(argparse.Namespace(bench=list(benches), workers=workers), pool)
    found = {}
    for name, path in truths:
        overlap = index.by_text(front_matter.strip(path.read_text("utf-8")), THRESHOLD)
        if overlap is not None:
            found[name] = f"shares {overlap.share:.0%} of its text with {overlap.bench}"
    return found
