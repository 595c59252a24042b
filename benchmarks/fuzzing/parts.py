"""The parts of a fuzzing run by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .pdf_targets import PdfPart
from .record import Part
from .text_targets import TEXT_PARTS

PARTS: dict[str, Callable[[int, Path, str | None], Part]] = {
    part.name: part for part in (PdfPart, *TEXT_PARTS)
}
