"""The RolloutBuffer: the ledger and the groups it speaks of, as one Ray actor.

The Driver adds scored groups; every LearnerWorker rank leases its share of a batch and commits the
batch with its optimizer step. Waiting is asynchronous: a lease returns when its batch is ready.

    Driver   -> issue, add, drop, skip_page, end_of_pages, rows, rows_written, evaluated,
                engines_sleep, stop
    Learner  -> begin, lease, need_engines, commit, published, report, evaluation_due,
                all_written, snapshot
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np

from olmrl.grpo.group_cost import measure_group
from olmrl.grpo.ledger import GroupState, Ledger
from olmrl.metrics import Last, Max, Mean, Measurements, merge
from olmrl.models.cost import balance
from olmrl.run.timeline import Span
from olmrl.types import NO_SIGNAL_RANGE, Float32Array, PolicyVersion, PromptGroup


@dataclass(frozen=True, slots=True)
class Lease:
    """One rank's share of a batch."""

    batch_id: str
    groups: tuple[PromptGroup, ...]
    """Whole groups of this rank; may be empty on some ranks of a short last batch."""
    positions: tuple[int, ...]
    """Where those groups stand in the batch."""
    totals: Float32Array
    """[groups in the batch, G] total rewards of the whole batch (batch-level advantage scaling)."""


@dataclass(frozen=True, slots=True)
class BufferView:
    """What the Driver needs to know each turn."""

    incarnation: int
    version: PolicyVersion
    engine_version: PolicyVersion | None
    issuable: int
    """Groups that may be issued now."""
    outstanding: int
    """Groups issued and not yet scored."""
    ready: int
    evaluation_due: PolicyVersion | None
    """Weights whose evaluation the learner waits for, if any."""
    finished: bool
    """The learner said that it is done."""
    rows: int
    """Finished metric rows to be taken."""
    sleep_due: bool
    """The learner waits for engines to give up the GPUs they share with it."""
    wake_due: bool
    """It is done with them."""
    serial: int
    """Changes whenever anything here does."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """A finished optimizer step."""

    step: int
    measured: Measurements
    pages: tuple[tuple[int, int, str], ...]
    """Epoch, place in its order and id of each page that was trained on."""
    spans: tuple[tuple[int, tuple[Span, ...]], ...] = ()
    """The parts of the step as each rank timed them, by rank."""
    at: float = 0.0
    """When the last rank reported it, in seconds since the epoch."""


class RolloutBuffer:
    """Async Ray actor (num_cpus=0); see the module docstring for who calls what.

    Args:
        batch_size: groups of an optimizer step.
        max_staleness: versions that a batch may lag.
        world_size: learner ranks.
        cost: of a group to the learner.
        colocated: engines sleep from the lease of a batch until its weights are to be sent.
    """

    def __init__(
        self,
        batch_size: int,
        max_staleness: int,
        world_size: int,
        cost: Callable[[PromptGroup], float],
        colocated: bool = False,
    ) -> None:
        self._ledger = Ledger(batch_size, max_staleness)
        self._batch_size = batch_size
        self._world = world_size
        self._cost = cost
        self._groups: dict[str, PromptGroup] = {}
        self._lengths: dict[str, float] = {}
        """Mean completion tokens of each page, when it was last scored."""
        self._leases: dict[str, list[Lease]] = {}
        self._changed = asyncio.Condition()
        self._serial = 0
        self._no_more_pages = False
        self._finished = False
        self._stopping = False
        self._colocated = colocated
        self._asleep = self._sleep_due = self._wake_due = False
        self._evaluation_due: PolicyVersion | None = None
        self._scores: dict[PolicyVersion, float | None] = {}
        """Of all weights of this incarnation that were evaluated."""
        self._reports: dict[int, list[tuple[int, Measurements, tuple[Span, ...]]]] = {}
        self._rows: list[StepRow] = []
        self._committed: dict[int, StepRow] = {}
        self._since_commit: list[Measurements] = []

    # -- Driver

    async def view(self, known: int = -1, timeout_s: float = 0.0) -> BufferView:
        """Say where everything stands; waits while the serial is still `known`."""
        if self._serial == known:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s), self._changed:
                    await self._changed.wait_for(lambda: self._serial != known)
        ledger = self._ledger
        issued = len(ledger.open_groups(GroupState.ISSUED))
        return BufferView(
            incarnation=ledger.version.incarnation,
            version=ledger.version,
            engine_version=ledger.engine_version,
            issuable=ledger.issuable(),
            outstanding=issued,
            ready=len(ledger.open_groups(GroupState.READY)),
            evaluation_due=self._evaluation_due,
            finished=self._finished,
            rows=len(self._rows),
            sleep_due=self._sleep_due,
            wake_due=self._wake_due,
            serial=self._serial,
        )

    async def issue(
        self, incarnation: int, epoch: int, index: int, page_id: str
    ) -> tuple[str, float | None] | None:
        """Open the group of a page position.

        Returns:
            Its id, and the mean length of the page's completions in an earlier epoch, if any. None
            when the position was used before a restart, or the learner has restarted since the
            Driver looked.
        """
        restarted = incarnation != self._ledger.version.incarnation
        if restarted or self._ledger.is_used(epoch, index):
            return None
        return self._ledger.issue(epoch, index, page_id), self._lengths.get(page_id)

    async def next_position(self, epoch_size: int) -> tuple[int, int]:
        """First page position that is neither open nor closed."""
        while self._ledger.close_epoch(self._ledger.closed_epoch, epoch_size):
            pass
        return self._ledger.next_position(epoch_size)

    async def skip_page(self, epoch: int, index: int, reason: str) -> None:
        """Close a position whose page could not be read."""
        self._ledger.skip_page(epoch, index, reason)
        await self._notify()

    async def add(self, group: PromptGroup, drop_zero_variance: bool) -> str:
        """Take a scored group: `ready`, `zero_variance` (dropped) or `void` (unknown by now)."""
        measured = measure_group(group)
        totals = group.totals
        if drop_zero_variance and float(np.ptp(totals)) <= NO_SIGNAL_RANGE:
            verdict = "zero_variance"
            if not self._ledger.drop(group.group_id, verdict):
                return "void"
        elif self._ledger.ready(group.group_id, group.oldest_version):
            verdict = "ready"
            self._groups[group.group_id] = group
        else:
            return "void"
        self._lengths[group.page_id] = measured["completion/mean_length"].value()
        self._since_commit.append(measured)
        await self._notify()
        return verdict

    async def drop(self, group_id: str, reason: str) -> bool:
        """Close a group that could not be generated or scored."""
        dropped = self._ledger.drop(group_id, reason)
        await self._notify()
        return dropped

    async def end_of_pages(self) -> None:
        """Let the last, smaller batch through: no page will be issued any more."""
        self._no_more_pages = True
        await self._notify()

    async def rows(self) -> list[StepRow]:
        """Rows of finished steps that are not written yet."""
        return list(self._rows)

    async def rows_written(self, incarnation: int, count: int) -> None:
        """Forget the first rows: they are on disk."""
        if incarnation == self._ledger.version.incarnation:
            del self._rows[:count]
            await self._notify()

    async def evaluated(self, version: PolicyVersion, score: float | None) -> None:
        """Release the learner that waits for an evaluation.

        Args:
            version: of the evaluated weights; void when that learner is gone.
            score: what the best checkpoint is chosen by.
        """
        version = PolicyVersion(*version)
        if self._is_present(version):
            self._scores[version] = score
        if version == self._evaluation_due:
            self._evaluation_due = None
        await self._notify()

    async def engines_sleep(self, asleep: bool) -> None:
        """Learn that all engines sleep, or are awake again."""
        self._asleep, self._sleep_due, self._wake_due = asleep, False, False
        await self._notify()

    async def stop(self) -> None:
        """Let the learner save and end: no new batch, no evaluation."""
        self._stopping = True
        await self._notify()

    async def stopping(self) -> bool:
        """Whether the run was asked to end."""
        return self._stopping

    # -- Learner

    async def begin(self, saved: tuple[dict[str, Any], list[PromptGroup]] | None) -> PolicyVersion:
        """Start an incarnation, from a checkpoint's ledger and groups or from nothing.

        Returns:
            The version of the weights the learner holds now.
        """
        incarnation = self._ledger.version.incarnation + 1
        snapshot = Ledger(self._batch_size, 0).snapshot()
        self._groups, self._lengths = {}, {}
        if saved is not None:
            snapshot, groups = saved
            self._lengths = dict(snapshot.get("lengths", {}))
            incarnation = max(incarnation, PolicyVersion.parse(snapshot["version"]).incarnation + 1)
            self._groups = {group.group_id: group for group in groups}
        self._ledger.restore(snapshot, incarnation)
        self._leases, self._reports = {}, {}
        self._sleep_due = self._wake_due = False  # of a rank that is no more
        self._since_commit = [measure_group(group) for group in self._groups.values()]
        self._rows, self._committed = [], {}
        self._no_more_pages, self._finished = False, False
        self._evaluation_due, self._scores = None, {}
        await self._notify()
        return self._ledger.version

    async def lease(self, batch_id: str, rank: int) -> Lease | None:
        """Wait for a batch and give this rank's share.

        None, on all ranks alike, when the pages are used up or the run was asked to end.
        """
        async with self._changed:
            while batch_id not in self._leases:
                self._drop_stale()
                if self._stopping or self._exhausted():
                    return None
                if not self._try_lease(batch_id):
                    await self._changed.wait()
            if self._colocated and not self._asleep:
                self._sleep_due = True
                self._changed_now()
                await self._changed.wait_for(lambda: self._asleep)
            return self._leases[batch_id][rank]

    async def need_engines(self) -> None:
        """Wait until the engines are awake: weights are to be sent to them."""
        async with self._changed:
            if self._asleep:
                self._wake_due = True
                self._changed_now()
                await self._changed.wait_for(lambda: not self._asleep)

    async def commit(self, batch_id: str, version: PolicyVersion) -> None:
        """Close a batch with the optimizer step that used it."""
        version = PolicyVersion(*version)
        records = self._ledger.commit(batch_id, version)
        for record in records:
            self._groups.pop(record.group_id, None)
        pages = tuple((r.epoch, r.index, r.page_id) for r in records)
        counts = {f"ledger/{name}": Last(float(n)) for name, n in self._ledger.counts.items()}
        # Taken here and not when the ranks report: by then groups of the next step may have come.
        measured = merge(*self._since_commit, counts)
        self._committed[version.step] = StepRow(version.step, measured, pages)
        self._since_commit = []
        self._leases.pop(batch_id, None)
        await self._notify()

    async def published(self, version: PolicyVersion) -> None:
        """Learn that all engines hold a version."""
        self._ledger.engines_hold(PolicyVersion(*version))
        await self._notify()

    async def all_written(self) -> None:
        """Wait until the rows of all steps are on disk, so that no checkpoint is ahead of them."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._rows and not self._committed)

    async def snapshot(self) -> tuple[dict[str, Any], list[PromptGroup]]:
        """Ledger and ready groups (without pages), to be saved with the weights as one unit."""
        snapshot = self._ledger.snapshot() | {"lengths": dict(self._lengths)}
        return snapshot, [replace(self._groups[row[4]], page=None) for row in snapshot["ready"]]

    async def report(
        self, step: int, rank: int, measured: Measurements, spans: tuple[Span, ...] = ()
    ) -> None:
        """Take one rank's measurements of a step; the row is complete when all ranks reported."""
        reports = self._reports.setdefault(step, [])
        reports.append((rank, measured, spans))
        if len(reports) == self._world:
            del self._reports[step]
            committed = self._committed.pop(step)
            merged = merge(*(part for _, part, _ in reports), committed.measured)
            timed = tuple((number, laps) for number, _, laps in sorted(reports, key=itemgetter(0)))
            self._rows.append(replace(committed, measured=merged, spans=timed, at=time.time()))
            await self._notify()

    async def evaluation_due(self, version: PolicyVersion) -> float | None:
        """Wait until the Driver has evaluated these weights; returns their score.

        Every rank asks, and a run may end right after an evaluation: weights are evaluated once,
        whoever asks again is answered at once. None as well when the run was asked to end, or for a
        learner that is gone.
        """
        version = PolicyVersion(*version)

        def settled() -> bool:
            return version in self._scores or self._stopping or not self._is_present(version)

        async with self._changed:
            if not settled():
                self._evaluation_due = version
                self._changed_now()
                await self._changed.wait_for(settled)
            return self._scores.get(version)

    async def finish(self) -> None:
        """Say that the learner has made its last step."""
        self._finished = True
        await self._notify()

    # -- inside

    def _is_present(self, version: PolicyVersion) -> bool:
        return version.incarnation == self._ledger.version.incarnation

    def _drop_stale(self) -> None:
        """Forget groups that no batch may take any more; the caller holds the condition."""
        stale = self._ledger.drop_stale()
        for record in stale:
            del self._groups[record.group_id]
        if stale:
            self._changed_now()

    def _try_lease(self, batch_id: str) -> bool:
        at_least = 1 if self._drained() else None
        taken = self._ledger.lease(batch_id, at_least=at_least)
        if taken is None:
            return False
        groups = [self._groups[group_id] for group_id in taken]
        totals = np.stack([g.totals for g in groups])
        shares = balance([self._cost(g) for g in groups], self._world)
        self._leases[batch_id] = [
            Lease(batch_id, tuple(groups[i] for i in share), tuple(share), totals)
            for share in shares
        ]
        self._since_commit.append(self._staleness(groups))
        return True

    def _staleness(self, groups: list[PromptGroup]) -> Measurements:
        now = self._ledger.version.step
        lags = [now - g.oldest_version.step for g in groups]
        return {
            "policy/staleness_mean": Mean.of(lags),
            "policy/staleness_max": Max(float(max(lags))),
        }

    def _drained(self) -> bool:
        return self._no_more_pages and not self._ledger.open_groups(GroupState.ISSUED)

    def _exhausted(self) -> bool:
        return self._drained() and not self._ledger.open_groups(GroupState.READY)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed_now()

    def _changed_now(self) -> None:
        """Wake all who wait; the caller holds the condition."""
        self._serial += 1
        self._changed.notify_all()
