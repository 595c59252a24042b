"""The parts of a fuzzing run by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .pdf_targets import PdfPart
from .record import Part

PARTS: dict[str, Callable[[int, Path, str | None], Part]] = {"pdf": PdfPart}
