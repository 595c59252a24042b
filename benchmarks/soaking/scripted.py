"""Thousands of steps through buffer, ledger, checkpoints and the run's files, with scripted groups.

No engine, no model and no Ray: the RolloutBuffer is called as its callers call it, checkpoints hold
a few small tensors, and every 1,000 steps the learner is lost and begins again from the newest one.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from olmrl.checkpoint.state import CheckpointStore
from olmrl.grpo.buffer import RolloutBuffer
from olmrl.grpo.saved_groups import decode_groups, encode_groups
from olmrl.metrics import Mean, flatten, read_rows
from olmrl.run.directory import RunDirectory
from olmrl.run.events import EventLog
from olmrl.run.sinks import JsonlSink
from olmrl.types import (
    Completion,
    Page,
    PolicyVersion,
    PromptGroup,
    RewardResult,
    Rollout,
    VersionSpan,
)

PAGES, BATCH, GROUP, STALENESS = 64, 4, 4, 2
CHECKPOINT_EVERY, LOST_EVERY = 10, 1000
_DROPPED = 0.1
"""Share of groups without a signal."""
_SAMPLE_EVERY = 25


class Scripted:
    """The learner, the Driver and the engines of a run, in one coroutine.

    Args:
        out: run directory.
        seed: of rewards and lengths.
    """

    def __init__(self, out: Path, seed: int) -> None:
        self._directory = RunDirectory(out)
        self._directory.create("{}\n")
        self._sink = JsonlSink(self._directory.metrics)
        self._log = EventLog(out, "driver")
        self._store = CheckpointStore(out / "checkpoints", keep_last=3)
        self._rng = random.Random(seed)
        self._buffer = RolloutBuffer(BATCH, STALENESS, 1, lambda group: 1.0, seed=seed)
        self._weights = {"model": {"w": torch.zeros(64, 64)}}
        self._process = psutil.Process()
        self._place = (0, 0)
        self.samples: list[dict[str, float]] = []

    async def run(self, steps: int, until: float, say: Callable[[str], None]) -> int:
        """Make the steps; returns how many were made by `until` (monotonic)."""
        version = await self._begin()
        while version.step < steps and time.monotonic() < until:
            # No call below waits, so that without this the event loop would never turn, and keep
            # every timeout of `view`; in a run the actor's loop turns between calls.
            await asyncio.sleep(0)
            await self._fill(version)
            batch = f"{version.incarnation}-{version.step}"
            lease = await self._buffer.lease(batch, 0)
            assert lease is not None
            version = PolicyVersion(version.incarnation, version.step + 1)
            await self._buffer.commit(batch, version)
            await self._buffer.published(version)
            await self._buffer.report(version.step, 0, {"policy/lr": Mean(1e-3)})
            await self._write_rows(version)
            if version.step % CHECKPOINT_EVERY == 0:
                await self._save(version)
            if version.step % _SAMPLE_EVERY == 0:
                self._sample(version.step)
            if version.step % LOST_EVERY == 0:
                say(f"step {version.step}: the learner is lost and begins again")
                version = await self._begin()
        self._store.wait()
        return version.step

    async def _begin(self) -> PolicyVersion:
        newest, saved = self._store.newest(), None
        if newest is not None:
            restored = self._store.load(newest, self._weights)
            saved = restored.extra["ledger"], decode_groups(restored.blobs["groups"])
        version = PolicyVersion(*await self._buffer.begin(saved))
        self._directory.continue_from(version.step)
        self._place = await self._buffer.next_position(PAGES)
        await self._buffer.published(version)
        return version

    async def _fill(self, version: PolicyVersion) -> None:
        """Issue what may be issued and answer it at once."""
        while (await self._buffer.view()).issuable:
            epoch, index = self._place
            self._place = (epoch, index + 1) if index + 1 < PAGES else (epoch + 1, 0)
            opened = await self._buffer.issue(version.incarnation, epoch, index, f"page-{index}")
            if opened is None:
                continue
            group = self._group(opened[0], index, version)
            fate = await self._buffer.add(group, True)
            if self._rng.random() < 0.02:
                page = Page(group.page_id, "page.pdf", index, reference="a page")
                self._directory.write_group(version.step, group, page, "pages/x.png", fate)

    def _group(self, group_id: str, index: int, version: PolicyVersion) -> PromptGroup:
        flat = self._rng.random() < _DROPPED
        rollouts = []
        for number in range(GROUP):
            ids = np.arange(self._rng.randint(8, 64), dtype=np.int32)
            completion = Completion(
                group_id,
                number,
                ids,
                np.zeros(len(ids), np.float32),
                (VersionSpan(version, 0, len(ids)),),
                "stop",
                "text of a page",
                np.arange(16, dtype=np.int32),
            )
            reward = 0.5 if flat else self._rng.random()
            rollouts.append(Rollout(completion, {"bench": RewardResult(reward)}, reward))
        return PromptGroup(group_id, f"page-{index}", tuple(rollouts))

    async def _write_rows(self, version: PolicyVersion) -> None:
        rows = await self._buffer.rows(version.incarnation)
        for row in rows:
            self._directory.write_step(row.step, row.pages)
            self._sink.write(row.step, flatten(row.measured))
        await self._buffer.rows_written(version.incarnation, len(rows))
        self._log.write("step", version)

    async def _save(self, version: PolicyVersion) -> None:
        await self._buffer.all_written()
        ledger, groups = await self._buffer.snapshot()
        extra: dict[str, Any] = {"ledger": ledger, "version": str(version)}
        blobs = {"groups": encode_groups(groups)}
        self._weights["model"]["w"] += 1.0
        self._store.save(version.step, self._weights, extra=extra, blobs=blobs)

    def _sample(self, step: int) -> None:
        snapshot = next(iter((self._directory.checkpoints).glob("step-*/extra.json")), None)
        self.samples.append(
            {
                "step": step,
                "rss_mib": self._process.memory_info().rss / 2**20,
                "open_files": self._process.num_fds(),
                "threads": self._process.num_threads(),
                "ledger_kib": snapshot.stat().st_size / 2**10 if snapshot else 0.0,
                "checkpoints": len(list(self._directory.checkpoints.glob("step-*"))),
            }
        )


def closed_once(out: Path, steps: int) -> list[str]:
    """What is wrong with the pages and rows of a scripted run."""
    made = read_rows(out / "steps.jsonl")
    places = Counter((epoch, index) for row in made for epoch, index, _ in row["pages"])
    found = [f"{place} trained {n} times" for place, n in places.items() if n > 1]
    if [row["step"] for row in made] != list(range(1, steps + 1)):
        found.append("steps.jsonl does not have every step once")
    if [row["step"] for row in read_rows(out / "metrics.jsonl")] != list(range(1, steps + 1)):
        found.append("metrics.jsonl does not have every step once")
    return found


def folder_mib(folder: Path) -> float:
    """Size of all files below a folder."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except FileNotFoundError:  # it was removed meanwhile
                continue
    return total / 2**20
