"""Saving and restoring runs: `CheckpointStore`, the only writer of a run's checkpoint folder.

A checkpoint is one unit: the strategy's state in shards, the random generators of every rank, and
what the caller adds (ledger, data position, config ...). It is written next to the older ones,
synced to disk, declared complete, and only then given its name: a killed or failed save leaves no
checkpoint, and older ones are removed only once the newer one is complete. Needs no Ray; if
torch.distributed is initialised, every rank calls `save` and `load`, otherwise one process does.

    CheckpointFolder(run_dir / "checkpoints").recover()    # driver, holding the RunLock
    store = CheckpointStore(run_dir / "checkpoints", keep_last=3, keep_best=1)
    newest = store.newest()
    if newest:
        restored = store.load(newest, strategy.state_dict())
        strategy.load_state_dict(restored.state)
    store.save(step, strategy.state_dict(), extra={"version": str(version)}, blobs={...})
    store.wait()                                      # before the process ends
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch.distributed as dist
from torch.distributed.checkpoint import CheckpointException

from olmrl import storage
from olmrl.checkpoint import manifest, shards
from olmrl.checkpoint.folder import CheckpointFolder
from olmrl.checkpoint.manifest import Checkpoint, CheckpointError


@dataclass(frozen=True, slots=True)
class Restored:
    """What `CheckpointStore.load` returns."""

    step: int
    """Steps in the weights."""
    state: Any
    """The saved tree, with the structure of the state it was loaded into; for
    `strategy.load_state_dict`."""
    extra: dict[str, Any]
    """The caller's JSON extras."""
    blobs: dict[str, bytes]
    """The caller's binary extras."""


class CheckpointStore(CheckpointFolder):
    """A CheckpointFolder that can also load and save."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        keep_last: int = 3,
        keep_best: int = 0,
        best_mode: Literal["min", "max"] = "max",
        asynchronous: bool = False,
    ) -> None:
        """Describe the store; this reads and writes nothing.

        Args:
            root: see `CheckpointFolder`, also for the next three.
            keep_last: number of newest checkpoints to keep.
            keep_best: number of best checkpoints to keep.
            best_mode: whether the smallest or the largest score is best.
            asynchronous: copy the state to host memory, then write it in a thread.
        """
        super().__init__(root, keep_last=keep_last, keep_best=keep_best, best_mode=best_mode)
        self._asynchronous = asynchronous
        self._thread: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None
        self._group: dist.ProcessGroup | None = None

    def load(self, checkpoint: Checkpoint, state: Any, *, restore_rng: bool = True) -> Restored:
        """Fill a state from a checkpoint, on any number of ranks; all ranks call it.

        Args:
            checkpoint: from `newest`, `best` or `at`.
            state: `strategy.state_dict()` of the running strategy; its tensors are overwritten.
                Leave out a top-level key (e.g. "optim") to restore only the others; a key that is
                present but has no tensors (an optimizer before its first step) is read in full.
            restore_rng: restore this process's random generators. A rank that did not exist when
                the checkpoint was written gets new ones, seeded by step and rank.

        Raises:
            CheckpointError: damaged files, or another model (names the first differing tensor).
        """
        folder = checkpoint.path
        saved = shards.saved_shapes(folder)
        _, tensors = shards.split(state)
        shards.check(folder, tensors, saved)
        tensors = {name: tensor for name, tensor in tensors.items() if name in saved}
        rank = dist.get_rank() if dist.is_initialized() else 0
        prefix = f"{shards.RNG}/{rank}/"
        rng = {n: t for n, t in shards.capture_rng().items() if prefix + n in saved}
        wanted = {**tensors, **{prefix + name: tensor for name, tensor in rng.items()}}
        try:
            shards.read_into(wanted, folder, self._process_group())
        except CheckpointException as error:
            raise CheckpointError(f"{folder}: cannot be read ({_causes(error)})") from error
        if restore_rng and rng:
            shards.restore_rng(rng)
        elif restore_rng:
            shards.seed_rng(checkpoint.step * 1_000_003 + rank)
        values = manifest.read_json(storage.join(folder, manifest.VALUES))
        kept = {key: values[key] for key in state if key in values}
        filled = wanted | dict(shards.stored(folder, _unnamed(state, tensors, saved)))
        return Restored(
            checkpoint.step, shards.join(kept, filled), checkpoint.extra(), checkpoint.blobs()
        )

    # Writing

    def save(
        self,
        step: int,
        state: Mapping[str, Any],
        *,
        extra: Mapping[str, Any],
        blobs: Mapping[str, bytes] | None = None,
    ) -> None:
        """Save one checkpoint; all ranks call this, and rank 0's extra and blobs are saved.

        If asynchronous, waits for the previous save and returns once the state is copied to host
        memory.

        Args:
            step: steps in the weights.
            state: `strategy.state_dict()`: a dict of trees of tensors and plain values.
            extra: JSON values.
            blobs: binary extras by name.

        Raises:
            CheckpointError: this save (or, if asynchronous, the previous one) failed; earlier
                complete checkpoints are untouched.
        """
        self.wait()
        values, tensors = shards.split(dict(state))
        rank = dist.get_rank() if dist.is_initialized() else 0
        tensors |= {f"{shards.RNG}/{rank}/{n}": t for n, t in shards.capture_rng().items()}
        texts = {manifest.VALUES: _to_json(values), manifest.EXTRA: _to_json(dict(extra))}
        files = {**texts, **{f"{manifest.BLOBS}/{n}": bytes(b) for n, b in (blobs or {}).items()}}
        work = self._path(self._work_name(step))
        writer = shards.writer(work)
        group = self._process_group()
        if self._asynchronous:
            tensors = writer.stage(tensors)

        def run() -> None:
            self._guarded(step, lambda: shards.write(tensors, writer, group))
            if rank == 0:
                self._guarded(step, lambda: self._publish(step, files))

        if not self._asynchronous:
            run()
            return
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending = self._thread.submit(run)

    def wait(self) -> None:
        """Wait for the asynchronous save in progress.

        Raises:
            CheckpointError: it failed.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    # The steps of a save

    def _publish(self, step: int, files: Mapping[str, bytes]) -> None:
        work, final = self._work_name(step), manifest.folder_name(step)
        for name, content in files.items():
            storage.write_bytes(storage.join(self._path(work), name), content)
        world = dist.get_world_size() if dist.is_initialized() else 1
        manifest.complete(self._path(work), step, world)
        if not storage.is_remote(self._root):
            self._give_name(work, final)
        self.prune()

    def _give_name(self, work: str, final: str) -> None:
        replaced = f".{final}.replaced"
        _sync_folder(self._path(work))
        if final in self._names():
            self._remove(replaced)
            os.replace(self._path(final), self._path(replaced))
        os.replace(self._path(work), self._path(final))
        _sync_folder(self._root)
        self._remove(replaced)

    def _guarded(self, step: int, action: Callable[[], None]) -> None:
        try:
            action()
        except (CheckpointException, OSError, RuntimeError) as error:
            cause = _causes(error) if isinstance(error, CheckpointException) else str(error)
            self._remove(self._work_name(step))
            steps = self.steps()
            survivor = f"step {steps[-1]} is the newest" if steps else "none yet"
            raise CheckpointError(
                f"{self._root}: saving step {step} failed ({cause}{self._free_space()}); "
                f"complete checkpoints: {survivor}"
            ) from error

    def _free_space(self) -> str:
        if storage.is_remote(self._root) or not Path(self._root).exists():
            return ""
        return f"; {shutil.disk_usage(self._root).free / 2**20:.0f} MiB free"

    def _process_group(self) -> dist.ProcessGroup | None:
        # Its own gloo group: saves communicate from a thread, concurrently with training.
        if self._group is None and dist.is_initialized():
            self._group = dist.new_group(backend="gloo")
        return self._group


def _unnamed(state: Any, tensors: Iterable[str], saved: Iterable[str]) -> list[str]:
    """Saved tensors of those parts of a state that have no tensors themselves."""
    named = {name.split("/", 1)[0] for name in tensors}
    return [
        name for name in saved if (part := name.split("/", 1)[0]) in state and part not in named
    ]


def _to_json(value: Any) -> bytes:
    try:
        return json.dumps(value).encode()
    except TypeError as error:
        raise CheckpointError(f"checkpoint extra: {error}") from error


def _causes(error: CheckpointException) -> str:
    return "; ".join(f"rank {rank}: {cause[0]}" for rank, cause in error.failures.items())


def _sync_folder(folder: str) -> None:
    # The contents of all files are synced already; this makes their names durable.
    for path in [Path(folder), *(p for p in Path(folder).iterdir() if p.is_dir())]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
