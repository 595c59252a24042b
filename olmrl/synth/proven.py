"""Pages that were set from their truth, to a bench folder of those that bear their tests out.

The second half of every way that makes pages (`from_html`, `from_pdfs`): what they set lies in
WORK/pages as NAME.pdf, NAME.md (truth) and NAME.html (truth with its page furniture).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from olmrl.synth.derive import derive_folder
from olmrl.synth.sheet_html import PageNote, write_sheet

SUFFIXES = (".pdf", ".md", ".html")


def write_proven(
    out: str,
    work: Path,
    names: Sequence[str],
    *,
    seed: int,
    most_tests: int,
    workers: int,
    notes: Mapping[str, PageNote] | None = None,
) -> dict[str, Any]:
    """Write OUT/bench, OUT/pairs and OUT/sheet, each of which appears once it is whole.

    Args:
        out: Folder to write, local.
        work: Folder with pages/, on the same file system.
        names: Of the pages.
        seed: Decides which tests are tried.
        most_tests: Most tests of a page.
        workers: Processes.
        notes: What the sheet tells of a page besides its picture, truth and tests, by name.

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
    pairs = work / "pairs"
    shutil.rmtree(pairs, ignore_errors=True)
    pairs.mkdir()
    for name in report["tests_per_page"]:
        for suffix in (".pdf", ".md"):
            _link(chosen / f"{name}{suffix}", pairs)
    sheet = work / "sheet"
    shutil.rmtree(sheet, ignore_errors=True)
    write_sheet(part, chosen, report, sheet, notes or {})
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
