"""A reward without any signal: one of the controls."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from olmrl.types import Completion, Page


def noise(page: Page, completions: Sequence[Completion], seed: int = 0) -> list[float]:
    """A number in 0..1 for each text, the same one for the same text of the same page."""
    keys = (f"{seed}/{page.page_id}/{completion.text}" for completion in completions)
    return [zlib.crc32(key.encode()) / 2**32 for key in keys]


noise.needs_group = False  # type: ignore[attr-defined]
