"""Packed batches on disk, so that a step can be run again without engines.

One `.npz` file per rank holds all its batches; nothing in it is pickled.
"""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Sequence

import numpy as np

from olmrl import storage
from olmrl.learner.minibatches import Minibatches
from olmrl.types import PackedBatch

_ARRAYS = [f.name for f in dataclasses.fields(PackedBatch) if f.name != "page_ids"]


def replay_path(folder: str, step: int, rank: int) -> str:
    """Path of the batches of a step and rank."""
    return f"{folder.rstrip('/')}/step-{step}-rank-{rank}.npz"


def load_step(folder: str, step: int) -> Minibatches:
    """Read the batches of all ranks of a step, by the minibatches of its first pass.

    Raises:
        ValueError: nothing was saved of that step; the message names the saved steps.
    """
    pattern = re.compile(r"step-(\d+)-rank-(\d+)\.npz")
    files = storage.list_files(folder, ".npz") if storage.exists(folder) else []
    names = [file.rsplit("/", 1)[-1] for file in files]
    found = [match for name in names if (match := pattern.fullmatch(name))]
    ranks = sorted(int(m[2]) for m in found if int(m[1]) == step)
    if not ranks:
        known = ", ".join(map(str, sorted({int(m[1]) for m in found}))) or "none"
        raise ValueError(f"{folder}: no saved batches of step {step}; saved steps: {known}")
    saved = [load_batches(replay_path(folder, step, rank)) for rank in ranks]
    numbered = [(n, row) for work in saved for n, row in zip(work.minibatch_of, work, strict=True)]
    count = max((number for number, _ in numbered), default=0) + 1
    return Minibatches([[row for n, row in numbered if n == number] for number in range(count)])


def save_batches(path: str, batches: Sequence[PackedBatch]) -> None:
    """Write batches as one file, whole or not at all."""
    work = batches if isinstance(batches, Minibatches) else Minibatches([batches])
    arrays: dict[str, np.ndarray] = {
        "count": np.asarray(len(batches)),
        "minibatch_of": np.asarray(work.minibatch_of, np.int64),
    }
    for index, batch in enumerate(batches):
        arrays[f"{index}/page_ids"] = np.asarray(batch.page_ids, dtype=np.str_)
        for name in _ARRAYS:
            value = getattr(batch, name)
            if value is not None:
                arrays[f"{index}/{name}"] = value
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    storage.write_bytes(path, stream.getvalue())


def load_batches(path: str) -> Minibatches:
    """Read what `save_batches` wrote.

    Raises:
        ValueError: the file is missing or something else.
    """
    try:
        with np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        count = int(found["count"])
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a saved step of packed batches ({error})") from error
    if count and "0/patches" not in found:
        raise ValueError(f"{path}: saved by an older olmrl, with another form of images")
    batches = [
        PackedBatch(
            page_ids=tuple(str(p) for p in found[f"{index}/page_ids"]),
            **{name: found[f"{index}/{name}"] for name in _ARRAYS if f"{index}/{name}" in found},
        )
        for index in range(count)
    ]
    numbers = found.get("minibatch_of", np.zeros(count, np.int64))
    parts = range(int(numbers.max(initial=0)) + 1)
    return Minibatches([[batches[i] for i in np.flatnonzero(numbers == part)] for part in parts])
