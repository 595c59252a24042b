"""Candidates of a bench folder: one folder of transcriptions each, beside the PDFs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from olmrl.bench.case import CaseError

PDF_DIR = "pdfs"
"""Sub-folder that holds the pages; every other sub-folder is a candidate's output."""


def candidates(root: Path) -> list[str]:
    """Names of a bench folder's candidates."""
    every = (p.name for p in root.iterdir() if p.is_dir())
    return sorted(name for name in every if name != PDF_DIR and not name.startswith("."))


def candidate_folder(root: Path, name: str) -> Path:
    """The folder of a candidate.

    Raises:
        CaseError: there is none.
    """
    folder = root / name
    if name == PDF_DIR or not folder.is_dir():
        names = candidates(root) or "none"
        raise CaseError(f"{folder} is not a candidate folder; {root} has {names}")
    return folder


def refuse_twice(names: Sequence[str]) -> None:
    """Refuse to compare a candidate with itself.

    Raises:
        CaseError: a name stands twice.
    """
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise CaseError(f"{twice!r} is named twice; give different candidates")
