"""The folder of a run's checkpoints: which exist, are complete, are removed. Needs no torch."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Literal

from olmrl import storage
from olmrl.checkpoint import manifest
from olmrl.checkpoint.manifest import Checkpoint, CheckpointError

_SCORES = "scores.json"
_PARTIAL = re.compile(r"\.step-\d+\.partial")
_REPLACED = re.compile(r"\.(step-\d+)\.replaced")


class CheckpointFolder:
    """The checkpoints of one run, in one local or remote folder."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        keep_last: int = 3,
        keep_best: int = 0,
        best_mode: Literal["min", "max"] = "max",
    ) -> None:
        """Describe the folder; this reads and writes nothing.

        Args:
            root: folder of the `step-N` folders.
            keep_last: number of newest checkpoints to keep, at least 1.
            keep_best: number of checkpoints to keep by score as well (see `record_score`).
            best_mode: whether the smallest or the largest score is best.
        """
        if keep_last < 1:
            raise CheckpointError(f"keep_last: must be >= 1, got {keep_last}")
        self._root = os.fspath(root)
        self._keep_last = keep_last
        self._keep_best = keep_best
        self._best_sign = 1.0 if best_mode == "max" else -1.0

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, in order."""
        return sorted(s for s, name in self._folders().items() if self._is_complete(name))

    def newest(self) -> Checkpoint | None:
        """Open the newest complete checkpoint; None if there is none.

        Raises:
            CheckpointError: it is damaged, or in a newer format.
        """
        steps = self.steps()
        return self.at(steps[-1]) if steps else None

    def best(self) -> Checkpoint | None:
        """Open the complete checkpoint with the best recorded score; None if none has one."""
        ranked = self._by_score(self.steps())
        return self.at(ranked[0]) if ranked else None

    def at(self, step: int) -> Checkpoint:
        """Open the checkpoint of a step.

        Raises:
            CheckpointError: there is none (lists those that exist), or it is damaged or newer.
        """
        if step not in self._folders():
            known = ", ".join(map(str, self.steps())) or "none"
            raise CheckpointError(f"{self._root}: no checkpoint of step {step}; complete: {known}")
        return manifest.open_checkpoint(self._path(manifest.folder_name(step)))

    def record_score(self, step: int, score: float) -> bool:
        """Record the evaluation of some weights, in any process of the run, for `keep_best`.

        Returns:
            Whether they are among the `keep_best` best, and so must be saved if they are not yet.
        """
        known = set(self._folders())
        newest = max(known, default=-1)
        # Newer than the newest checkpoint: an asynchronous save in progress has no name yet. Newer
        # than `step` without a checkpoint: the run has rolled back to before that evaluation.
        scores = {s: v for s, v in self._scores().items() if s in known or newest < s < step}
        scores[step] = float(score)
        self._write_scores(scores)
        return step in self._rank(scores)[: self._keep_best]

    def recover(self) -> None:
        """Remove leftovers of killed saves; no save may be running (hold the RunLock)."""
        for name in self._names():
            replaced = _REPLACED.fullmatch(name)
            if replaced and not self._is_complete(replaced[1]):
                os.replace(self._path(name), self._path(replaced[1]))
            elif replaced or _PARTIAL.fullmatch(name):
                self._remove(name)
        for name in self._folders().values():
            if not self._is_complete(name):
                self._remove(name)

    def prune(self) -> None:
        """Remove complete checkpoints that neither `keep_last` nor `keep_best` keeps."""
        steps = self.steps()
        kept = {*steps[-self._keep_last :], *self._by_score(steps)[: self._keep_best]}
        for step in steps:
            if step not in kept:
                self._remove(manifest.folder_name(step))

    # Names, completeness, scores

    def _path(self, name: str) -> str:
        return storage.join(self._root, name)

    def _work_name(self, step: int) -> str:
        # An object store cannot rename: the name is final there, and only COMPLETE counts.
        name = manifest.folder_name(step)
        return name if storage.is_remote(self._root) else f".{name}.partial"

    def _names(self) -> list[str]:
        fs, inner = storage.filesystem(self._root)
        fs.invalidate_cache()
        with storage.named(self._root):
            if not fs.isdir(inner):
                return []
            return [path.rstrip("/").rsplit("/", 1)[-1] for path in fs.ls(inner, detail=False)]

    def _folders(self) -> dict[int, str]:
        steps = {manifest.step_of(name): name for name in self._names()}
        return {step: name for step, name in steps.items() if step is not None}

    def _is_complete(self, name: str) -> bool:
        return storage.exists(storage.join(self._path(name), manifest.COMPLETE))

    def _remove(self, name: str) -> None:
        manifest.remove_folder(self._path(name))

    def _scores(self) -> dict[int, float]:
        path = self._path(_SCORES)
        if not storage.exists(path):
            return {}
        recorded = manifest.read_json(path)
        try:
            return {int(step): float(score) for step, score in recorded.items()}
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: damaged ({error})") from error

    def _write_scores(self, scores: Mapping[int, float]) -> None:
        storage.write_json(self._path(_SCORES), {str(s): v for s, v in sorted(scores.items())})

    def _by_score(self, steps: list[int]) -> list[int]:
        scores = self._scores()
        return self._rank({step: scores[step] for step in steps if step in scores})

    def _rank(self, scores: Mapping[int, float]) -> list[int]:
        """Steps with a score, best first; if tied, the newer one first."""
        scored = [step for step, score in scores.items() if not math.isnan(score)]
        return sorted(scored, key=lambda s: (self._best_sign * scores[s], s), reverse=True)
