"""Configurations and prompts that come with olmrl, in a repository or installed from a wheel."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "configs"
PREFIX = "configs/"


def find(path: str | Path) -> str:
    """Where a file lies: `configs/...` is olmrl's own unless the working folder has one.

    Any other path is returned as it is.
    """
    text = str(path)
    if not text.startswith(PREFIX) or Path(text).exists():
        return text
    own = FOLDER / text.removeprefix(PREFIX)
    return str(own) if own.exists() else text
