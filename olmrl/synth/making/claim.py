"""A folder that one call makes pages in: no other call works there, and nothing of others is there.

What a call makes replaces what lies at its place, so a folder that holds something else is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from olmrl import storage

MADE = ("bench", "pairs", "sheet", "manifest.jsonl", "report.json", "work")
"""What a call makes in its folder."""


@contextmanager
def claim(out: str, verb: str) -> Iterator[Path]:
    """Hold OUT for one call; yields OUT/work.

    Args:
        out: Folder, local; made if it is missing.
        verb: The command; a folder stays with the one that began it.

    Raises:
        ValueError: another call works there, or what it would replace is not its own.
    """
    folder = Path(out)
    mark = folder / "work" / "made_by.json"
    own = _verb_of(mark)
    if own is None:
        _refuse_foreign(folder)
    elif own != verb:
        raise ValueError(f"{out}: was begun by {own}; give {verb} another folder")
    mark.parent.mkdir(parents=True, exist_ok=True)
    with storage.hold(mark.parent / "lock", out):
        if own is None:
            storage.write_json(mark, {"verb": verb})
        yield mark.parent


def outside(out: str, paths: Sequence[str]) -> list[str]:
    """The paths that do not lie in OUT: what an earlier call made there is no source."""
    own = os.path.realpath(out) + os.sep
    folders: dict[str, str] = {}

    def real(path: str) -> str:
        folder = os.path.dirname(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder) + os.sep
        return folders[folder]

    return [path for path in paths if storage.is_remote(path) or not real(path).startswith(own)]


def _verb_of(mark: Path) -> str | None:
    if not mark.exists():
        return None
    try:
        return str(json.loads(mark.read_text("utf-8"))["verb"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{mark}: damaged; delete {mark.parent} to begin anew") from error


def _refuse_foreign(folder: Path) -> None:
    """Whatever a first call would replace; a call that was killed at once has left a lock."""
    for name in MADE:
        path = folder / name
        if name == "work" and path.is_dir() and {p.name for p in path.iterdir()} <= {"lock"}:
            continue
        if path.exists() or path.is_symlink():
            raise ValueError(
                f"{path}: is there already and would be replaced; give a new or an empty folder"
            )
