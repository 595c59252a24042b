"""What makes a checkpoint folder complete: its `COMPLETE` file, a manifest written last.

step-40/
  COMPLETE             format, step, ranks, name and size of every other file
  .metadata *.distcp   tensors, sharded (torch.distributed.checkpoint)
  values.json          the rest of the strategy's state
  extra.json           the caller's data: policy version, ledger, data position, config ...
  blobs/NAME           binary extras, e.g. groups that were ready but not trained
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from olmrl import storage

FORMAT = 1
"""Layout version; raised when older versions of olmrl can no longer read new checkpoints."""
COMPLETE = "COMPLETE"
VALUES = "values.json"
EXTRA = "extra.json"
BLOBS = "blobs"
_STEP_NAME = re.compile(r"step-(\d+)")


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written; the message names folder and file."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint."""

    path: str
    """The folder, local or remote."""
    step: int
    """Steps in the weights."""
    files: Mapping[str, int]
    """Size in bytes of each file, by path within the folder."""

    def extra(self) -> dict[str, Any]:
        """Read the caller's JSON extras."""
        return read_json(storage.join(self.path, EXTRA))

    def blobs(self) -> dict[str, bytes]:
        """Read the binary extras."""
        names = [name for name in self.files if name.startswith(f"{BLOBS}/")]
        return {
            name.removeprefix(f"{BLOBS}/"): storage.read_bytes(storage.join(self.path, name))
            for name in names
        }


def folder_name(step: int) -> str:
    """Name of a step's folder."""
    return f"step-{step}"


def step_of(name: str) -> int | None:
    """Step of a folder name; None if it is not a checkpoint folder."""
    match = _STEP_NAME.fullmatch(name)
    return int(match[1]) if match else None


def read_json(path: str) -> dict[str, Any]:
    """Read a JSON object of a checkpoint or a model.

    Raises:
        CheckpointError: it is missing, damaged or no object.
    """
    try:
        value = json.loads(storage.read_text(path))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: damaged (holds a {type(value).__name__}, not an object)")
    return value


def complete(folder: str, step: int, world: int) -> None:
    """Declare a folder complete: list its files and write the manifest."""
    files = sizes(folder)
    storage.write_json(
        storage.join(folder, COMPLETE),
        {"format": FORMAT, "step": step, "world": world, "files": files},
    )


def sizes(folder: str) -> dict[str, int]:
    """Size in bytes of every file below a folder except the manifest, by relative path."""
    fs, inner = storage.filesystem(folder)
    fs.invalidate_cache()
    inner = inner.rstrip("/")
    found = fs.find(inner, detail=True)
    named = {path[len(inner) + 1 :]: int(entry["size"]) for path, entry in found.items()}
    return {name: size for name, size in sorted(named.items()) if name != COMPLETE}


def open_checkpoint(folder: str) -> Checkpoint:
    """Read the manifest of a checkpoint and compare it with the files.

    Raises:
        CheckpointError: no complete checkpoint, a missing or truncated file, a newer format.
    """
    marker = storage.join(folder, COMPLETE)
    if not storage.exists(marker):
        raise CheckpointError(f"{folder}: not a complete checkpoint (no {COMPLETE} file)")
    manifest = read_json(marker)
    if not isinstance(manifest.get("format"), int):
        raise CheckpointError(f"{marker}: damaged (no format number)")
    if manifest["format"] > FORMAT:
        raise CheckpointError(
            f"{folder}: written in format {manifest['format']} by a newer olmrl; "
            f"this one reads formats up to {FORMAT}"
        )
    try:
        checkpoint = Checkpoint(folder, int(manifest["step"]), dict(manifest["files"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{marker}: damaged ({error})") from error
    present = sizes(folder)
    for name, size in checkpoint.files.items():
        if name not in present:
            raise CheckpointError(f"{folder}: {name} is missing ({size} bytes were saved)")
        if present[name] != size:
            raise CheckpointError(
                f"{folder}: {name} is truncated or changed ({present[name]} bytes, {size} saved)"
            )
    return checkpoint


def remove_folder(folder: str) -> None:
    """Remove a folder, COMPLETE first: if interrupted, the rest is incomplete, not damaged."""
    fs, inner = storage.filesystem(folder)
    if not fs.exists(inner):
        return
    marker = storage.filesystem(storage.join(folder, COMPLETE))[1]
    if fs.exists(marker):
        fs.rm_file(marker)
    if storage.is_remote(folder):
        fs.rm(inner, recursive=True)
    else:
        shutil.rmtree(inner, ignore_errors=True)
