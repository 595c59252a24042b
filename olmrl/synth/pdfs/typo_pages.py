"""Pages that a model wrote, printed once more with typing errors that their truth keeps."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from olmrl import storage
from olmrl.synth.pdfs.model_html import read_model_html, truth_html
from olmrl.synth.pdfs.printing import PrintJob, print_model_page
from olmrl.synth.proof.html_truth import read_html
from olmrl.synth.variants.kinds import gets
from olmrl.synth.variants.typos import MOST_TYPOS, page_with_typos


class Browsers(Protocol):
    """What prints pages (`web.browser_pool.BrowserPool`)."""

    def map(self, job: Any, needs: Sequence[Any]) -> Any:
        """The outcome of each job, in order."""


def printed_html(folder: Path, name: str) -> Path:
    """Where the HTML of a page lies as it was printed."""
    return folder / f"{name}.printed.html"


def typo_pages(
    folder: Path,
    papers: Mapping[str, Sequence[int]],
    shares: Mapping[str, float],
    seed: int,
    browsers: Browsers,
) -> dict[str, dict[str, Any]]:
    """Print pages with errors next to those without, those that have no room for them left out.

    Args:
        folder: With the pages, and their `printed_html`.
        papers: Width and height in CSS pixels of each page, by its name.
        shares: Of `variants.kinds.parse_variants`.
        seed: Of the run.
        browsers: Print.

    Returns:
        What the manifest tells of each new page, by its name.
    """
    jobs: list[PrintJob] = []
    facts: dict[str, dict[str, Any]] = {}
    for name, (width, height) in sorted(papers.items()):
        if not gets(shares, "typos", name, seed):
            continue
        source = printed_html(folder, name).read_text("utf-8")
        html, typos = page_with_typos(source, random.Random(f"{seed}/{name}/typos"), MOST_TYPOS)
        if typos:
            own = f"{name}-typos"
            jobs.append(PrintJob(html, width, height, str(folder / f"{own}.part.pdf")))
            facts[own] = {"variant": "typos", "of": name, "typos": [list(typo) for typo in typos]}
    outcomes = browsers.map(print_model_page, jobs)
    for job, (own, _), printed in zip(jobs, list(facts.items()), outcomes, strict=True):
        if printed.faults:
            del facts[own]
            Path(job.pdf).unlink(missing_ok=True)
            continue
        truth = truth_html(read_model_html(job.html))
        os.replace(job.pdf, folder / f"{own}.pdf")
        storage.write_text(folder / f"{own}.md", read_html(truth).markdown)
        storage.write_text(folder / f"{own}.html", truth)
    return facts
