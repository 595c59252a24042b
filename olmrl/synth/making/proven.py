"""Pages that were set from their truth, to a bench folder of those that bear their tests out.

The second half of every way that makes pages (`from_html`, `from_pdfs`): what they set lies in
WORK/pages as NAME.pdf, NAME.md (truth) and NAME.html (truth with its page furniture).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from olmrl.mix.sheet import SheetPage
from olmrl.synth.derived.folder import derive_folder
from olmrl.synth.making.sheet_html import write_derived

SUFFIXES = (".pdf", ".md", ".html")


def write_proven(
    out: str,
    work: Path,
    names: Sequence[str],
    *,
    seed: int,
    most_tests: int,
    workers: int,
    told: Callable[[SheetPage], SheetPage] = lambda page: page,
    finish: Callable[[Path, Path, dict[str, Any]], None] = lambda bench, pages, report: None,
) -> dict[str, Any]:
    """Write OUT/bench, OUT/pairs and OUT/sheet, each of which appears once it is whole.

    Args:
        out: Folder to write, local.
        work: Folder with pages/, on the same file system.
        names: Of the pages.
        seed: Decides which tests are tried.
        most_tests: Most tests of a page.
        workers: Processes.
        told: Adds to the sheet what else is known of a page.
        finish: Changes the derived bench folder, its pages and the report (`finish.Finish`).

    Returns:
        The report of `derive_folder`.

    Raises:
        ValueError: no page bears a test out.
    """
    chosen = work / "chosen"
    shutil.rmtree(chosen, ignore_errors=True)
    chosen.mkdir()
    for name in names:
        for suffix in SUFFIXES:
            _link(work / "pages" / f"{name}{suffix}", chosen)
    part = work / "bench"
    shutil.rmtree(part, ignore_errors=True)
    report = derive_folder(
        str(chosen), str(part), seed=seed, most=most_tests, workers=workers, prove=True
    )
    finish(part, chosen, report)
    pairs = work / "pairs"
    shutil.rmtree(pairs, ignore_errors=True)
    pairs.mkdir()
    for name in report["tests_per_page"]:
        for suffix in (".pdf", ".md"):
            _link(chosen / f"{name}{suffix}", pairs)
    sheet = work / "sheet"
    shutil.rmtree(sheet, ignore_errors=True)
    write_derived(part, chosen, report, sheet, told)
    for made, name in ((part, "bench"), (pairs, "pairs"), (sheet, "sheet")):
        target = Path(out) / name
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
    shutil.rmtree(chosen)
    return report


def _link(path: Path, folder: Path) -> None:
    try:
        os.link(path, folder / path.name)
    except OSError:
        shutil.copy(path, folder)
