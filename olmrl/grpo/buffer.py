"""The RolloutBuffer: the ledger and its groups, as one Ray actor.

The Driver adds scored groups; every LearnerWorker rank leases its share of a batch and commits the
batch with the step that learnt from it. A lease returns when its batch is ready. Besides what every
run has (`run.actor`):

    Driver   -> issue, add, drop, skip_page, next_position, end_of_pages, refill_row, evaluated,
                engines_sleep
    Learner  -> begin, lease, need_engines, commit, published, dropped, evaluation_due, snapshot
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from olmrl.config.schema import SelectionConfig
from olmrl.grpo.group_cost import measure_group
from olmrl.grpo.ledger import GroupState, Ledger
from olmrl.grpo.page_selection import PageSelection
from olmrl.grpo.refills import dropped_since, refill_row
from olmrl.learner.minibatches import cut_groups
from olmrl.metrics import Last, Max, Mean, Measurements, merge
from olmrl.models.cost import balance
from olmrl.run.actor import RunActor, StepRow, View
from olmrl.types import NO_SIGNAL_RANGE, Float32Array, PolicyVersion, PromptGroup

_EVERY_PAGE = SelectionConfig()


@dataclass(frozen=True, slots=True)
class Lease:
    """One rank's share of a batch."""

    batch_id: str
    groups: tuple[PromptGroup, ...]
    """Whole groups of this rank; in a short last batch some ranks may have none."""
    positions: tuple[int, ...]
    """Places of those groups in the batch."""
    totals: Float32Array
    """[groups in the batch, G] `signals` of the whole batch (batch-level advantage scaling)."""
    closed: int = 0
    """Pages trained, dropped or set aside before this batch."""


@dataclass(frozen=True, slots=True)
class BufferView(View):
    """What the Driver of a GRPO run needs to know in addition."""

    version: PolicyVersion
    """Of the learner's weights."""
    issuable: int
    """Groups that may be issued now."""
    dropped: dict[str, int]
    """Groups dropped since the last batch was leased, by reason."""
    ready: int
    """Groups of the next batch that are ready."""
    sleep_due: bool
    """The learner waits for the engines to free the GPUs they share."""
    wake_due: bool
    """The learner waits for the engines to wake."""


class RolloutBuffer(RunActor):
    """Async Ray actor (num_cpus=0); see the module docstring for who calls what.

    Args:
        batch_size: groups of a step.
        max_staleness: versions by which a batch may lag.
        world_size: learner ranks.
        cost: of a group to the learner.
        minibatches: optimizer updates of a pass over a batch, of which ranks get equal shares.
        seed: of the run.
        colocated: engines sleep from the lease of a batch until its weights are sent.
        selection: which pages are left out for a while.
    """

    def __init__(
        self,
        batch_size: int,
        max_staleness: int,
        world_size: int,
        cost: Callable[[PromptGroup], float],
        minibatches: int = 1,
        seed: int = 0,
        colocated: bool = False,
        selection: SelectionConfig = _EVERY_PAGE,
    ) -> None:
        super().__init__(world_size)
        self._selection = PageSelection(selection)
        self._ledger = Ledger(batch_size, max_staleness)
        self._batch_size = batch_size
        self._cost = cost
        self._minibatches = minibatches
        self._seed = seed
        self._groups: dict[str, PromptGroup] = {}
        self._lengths: dict[str, float] = {}
        """Mean completion tokens of each page when it was last scored."""
        self._leases: dict[str, list[Lease]] = {}
        self._leased_counts: dict[str, int] = {}
        """The ledger's counts when the last batch was leased."""
        self._epoch_size = 0
        """Pages of an epoch; 0: no Driver has asked for a position yet."""
        self._no_more_pages = False
        self._colocated = colocated
        self._asleep = self._sleep_due = self._wake_due = False
        self._scores: dict[PolicyVersion, float | None] = {}
        """By weights of this incarnation that were evaluated."""
        self._committed: dict[int, StepRow] = {}
        """By step, what was known at its commit; the ranks report later."""
        self._since_commit: list[Measurements] = []

    # -- Driver

    async def issue(
        self, incarnation: int, epoch: int, index: int, page_id: str
    ) -> tuple[str, float | None] | None:
        """Open the group of a page position.

        Returns:
            Its id, and the mean length of the page's completions in an earlier epoch, if any. None
            if the position was used before a restart, the page is set aside, or the learner has
            restarted since the Driver last looked.
        """
        if incarnation != self._incarnation or self._ledger.is_used(epoch, index):
            return None
        if self._selection.leaves_out(page_id, epoch, self._ledger.version.step):
            self._ledger.set_aside(epoch, index)
            self._notify()
            return None
        return self._ledger.issue(epoch, index, page_id), self._lengths.get(page_id)

    async def next_position(self, epoch_size: int) -> tuple[int, int]:
        """First page position that is neither open nor closed."""
        self._epoch_size = epoch_size
        self._ledger.close_epochs(epoch_size)
        return self._ledger.next_position(epoch_size)

    async def skip_page(self, epoch: int, index: int, reason: str) -> None:
        """Close a position whose page cannot be used."""
        self._ledger.skip_page(epoch, index, reason)
        self._notify()

    async def add(self, group: PromptGroup, drop_zero_variance: bool) -> str:
        """Take a scored group: `ready`, `zero_variance` (dropped) or `void` (no longer known)."""
        measured = measure_group(group)
        epoch = self._ledger.epoch_of(group.group_id)
        if drop_zero_variance and float(np.ptp(group.signals)) <= NO_SIGNAL_RANGE:
            verdict = "zero_variance"
            if not self._ledger.drop(group.group_id, verdict):
                return "void"
        elif self._ledger.ready(group.group_id, group.oldest_version):
            verdict = "ready"
            self._groups[group.group_id] = group
        else:
            return "void"
        assert epoch is not None, "only an open group is ready or dropped"
        self._selection.note(group, epoch, self._ledger.version.step)
        self._lengths[group.page_id] = measured["completion/mean_length"].value()
        self._since_commit.append(measured)
        self._notify()
        return verdict

    async def drop(self, group_id: str, reason: str) -> bool:
        """Close a group that could not be generated or scored."""
        dropped = self._ledger.drop(group_id, reason)
        self._notify()
        return dropped

    async def end_of_pages(self) -> None:
        """Let the last, smaller batch through: no more pages will be issued."""
        self._no_more_pages = True
        self._notify()

    async def refill_row(self) -> Measurements:
        """A row about the groups scored and dropped since the last batch."""
        return refill_row(self._dropped(), self._ready(), merge(*self._since_commit))

    async def evaluated(self, version: PolicyVersion, score: float | None) -> None:
        """Release the learner that waits for an evaluation.

        Args:
            version: of the evaluated weights; ignored if their learner is gone.
            score: selects the best checkpoint.
        """
        version = PolicyVersion(*version)
        if version.incarnation == self._incarnation:
            self._scores[version] = score
            self._notify()

    async def engines_sleep(self, asleep: bool) -> None:
        """Note that all engines sleep, or are awake again."""
        self._asleep, self._sleep_due, self._wake_due = asleep, False, False
        self._notify()

    # -- Learner

    async def begin(self, saved: tuple[dict[str, Any], list[PromptGroup]] | None) -> PolicyVersion:
        """Start an incarnation, from a checkpoint's ledger and groups or from nothing.

        Returns:
            The version of the learner's weights.
        """
        snapshot, groups = saved or (Ledger(self._batch_size, 0).snapshot(), [])
        before = PolicyVersion.parse(snapshot["version"])
        self._ledger.restore(snapshot, self._begin(before.step, after=before.incarnation))
        self._lengths = dict(snapshot.get("lengths", {}))
        self._selection.restore(snapshot.get("resting", {}))
        self._groups = {group.group_id: group for group in groups}
        self._leases = {}
        self._sleep_due = self._wake_due = False  # asked for by ranks that are gone
        self._since_commit = [measure_group(group) for group in groups]
        self._committed, self._scores = {}, {}
        self._no_more_pages = False
        self._leased_counts = self._ledger.counts
        return self._ledger.version

    async def lease(self, batch_id: str, rank: int) -> Lease | None:
        """Wait for a batch and return this rank's share.

        None, on all ranks alike, when the pages are used up or the run was asked to end.
        """
        current = await self._until(lambda: self._settle(batch_id))
        if not current or batch_id not in self._leases:
            return None
        if self._colocated and not self._asleep:
            self._sleep_due = True
            self._notify()
            if not await self._until(lambda: self._asleep):
                return None
        return self._leases[batch_id][rank]

    async def need_engines(self) -> None:
        """Wait until the engines are awake, ready to take weights."""
        if self._asleep:
            self._wake_due = True
            self._notify()
            await self._until(lambda: not self._asleep)

    async def commit(self, batch_id: str, version: PolicyVersion) -> None:
        """Close a batch with the step that learnt from it."""
        version = PolicyVersion(*version)
        records = self._ledger.commit(batch_id, version)
        if self._epoch_size:
            self._ledger.close_epochs(self._epoch_size)
        for record in records:
            self._groups.pop(record.group_id, None)
        pages = tuple((r.epoch, r.index, r.page_id) for r in records)
        counts = {f"ledger/{name}": Last(float(n)) for name, n in self._ledger.counts.items()}
        # Taken here, as groups of the next step may arrive before the ranks report.
        measured = merge(*self._since_commit, counts, self._selection.measurements())
        self._committed[version.step] = StepRow(version.step, measured, pages=pages)
        self._reports.setdefault(version.step, [])  # no checkpoint before its row is written
        self._since_commit = []
        self._leases.pop(batch_id, None)
        self._notify()

    async def published(self, version: PolicyVersion) -> None:
        """Note that all engines hold a version."""
        self._ledger.engines_hold(PolicyVersion(*version))
        self._notify()

    async def dropped(self) -> dict[str, int]:
        """Groups dropped since the run began, by reason."""
        return dropped_since(self._ledger.counts, {})

    async def snapshot(self) -> tuple[dict[str, Any], list[PromptGroup]]:
        """Ledger and ready groups (without pages), saved with the weights as one unit."""
        kept = {"lengths": dict(self._lengths), "resting": self._selection.snapshot()}
        snapshot = self._ledger.snapshot() | kept
        return snapshot, [replace(self._groups[row[4]], page=None) for row in snapshot["ready"]]

    async def evaluation_due(self, version: PolicyVersion) -> float | None:
        """Wait until the Driver has evaluated these weights; returns their score.

        Weights are evaluated once, although every rank asks, and asks again if the run ends right
        after an evaluation. None also if the run was asked to end, or for a learner that is gone.
        """
        version = PolicyVersion(*version)
        if version.incarnation != self._incarnation:
            return None
        if not self._stopping:
            self._request(version)
        await self._until(lambda: version in self._scores or self._stopping)
        return self._scores.get(version)

    # -- inside

    def _view(self) -> BufferView:
        return BufferView(
            **self._common_view(),
            version=self._ledger.version,
            issuable=self._ledger.issuable(),
            dropped=self._dropped(),
            ready=self._ready(),
            sleep_due=self._sleep_due,
            wake_due=self._wake_due,
        )

    def _dropped(self) -> dict[str, int]:
        return dropped_since(self._ledger.counts, self._leased_counts)

    def _ready(self) -> int:
        return len(self._ledger.open_groups(GroupState.READY))

    def _add_row(self, row: StepRow) -> None:
        committed = self._committed.pop(row.step)
        measured = merge(row.measured, committed.measured)
        super()._add_row(replace(row, measured=measured, pages=committed.pages))

    def _settle(self, batch_id: str) -> bool:
        """Lease a batch if possible; True once it is leased, or when there will be none."""
        if batch_id in self._leases:
            return True
        self._drop_stale()
        return self._stopping or self._exhausted() or self._try_lease(batch_id)

    def _drop_stale(self) -> None:
        """Forget groups that are too old for any batch."""
        stale = self._ledger.drop_stale()
        for record in stale:
            del self._groups[record.group_id]
        if stale:
            self._notify()

    def _try_lease(self, batch_id: str) -> bool:
        at_least = 1 if self._drained() else None
        taken = self._ledger.lease(batch_id, at_least=at_least)
        if taken is None:
            return False
        groups = [self._groups[group_id] for group_id in taken]
        totals = np.stack([g.signals for g in groups])
        shares = self._shares(groups)
        self._leases[batch_id] = [
            Lease(
                batch_id,
                tuple(groups[i] for i in share),
                tuple(share),
                totals,
                self._ledger.closed,
            )
            for share in shares
        ]
        self._since_commit.append(self._staleness(groups))
        self._leased_counts = self._ledger.counts
        return True

    def _shares(self, groups: list[PromptGroup]) -> list[list[int]]:
        """Places in the batch by rank, each minibatch of the first pass balanced by cost."""
        step = self._ledger.version.step
        shares: list[list[int]] = [[] for _ in range(self._world)]
        for part in cut_groups(len(groups), self._minibatches, self._seed, step, epoch=0):
            for share, members in zip(
                shares, balance([self._cost(groups[p]) for p in part], self._world), strict=True
            ):
                share += [part[member] for member in members]
        return [sorted(share) for share in shares]

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
