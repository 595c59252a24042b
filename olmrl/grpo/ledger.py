"""The account of who owns which prompt group (docs/design.md#the-commit-protocol).

    issued -> ready -> leased(batch) -> committed
       \\________\\__________\\--------> dropped(reason)

Plain Python without Ray, so that it can be model-checked. Engines and scorers only report; the
learner leases a batch and commits it with the step that learnt from it. A page position
`(epoch, index)` is closed when its group is committed or dropped, and is closed exactly once. After
a restart the ledger returns to the snapshot saved with the weights, the incarnation rises, and
every report about a group that is not in the snapshot is ignored.

Staleness bound: while the engines hold step v, at most `(v + 1 + max_staleness) * batch_size`
groups that were not dropped may have been issued. A batch takes ready groups in issue order. Fast
ones may overtake slow ones, but not those that only this batch may still take (at most batch_size):
it waits for them, or long completions would go stale and never be learnt from. Groups that are
nevertheless too old at lease time (after a restart, say) are dropped. With max_staleness 0 the
groups of a batch depend only on which groups are dropped, not on the order of events: synchronous
runs are reproducible.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from olmrl.types import PolicyVersion


class GroupState(StrEnum):
    """Where an open group stands."""

    ISSUED = "issued"
    READY = "ready"
    LEASED = "leased"


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """One group's line in the ledger."""

    group_id: str
    """`<epoch>-<index>-<incarnation>`: a position issued again after a restart has a new id."""
    epoch: int
    index: int
    """Position in the page order of its epoch."""
    page_id: str
    state: GroupState
    version: PolicyVersion | None = None
    """Weights that the engines held when it was issued; once ready, the oldest weights in it."""
    batch_id: str | None = None


class Ledger:
    """Owns the life of every prompt group; all methods are synchronous.

    Reports about unknown or closed groups return False and change nothing, because late and
    duplicate messages are normal.
    """

    def __init__(self, batch_size: int, max_staleness: int) -> None:
        self._batch_size = batch_size
        self._max_staleness = max_staleness
        self._live: dict[str, GroupRecord] = {}
        self._closed_epoch = 0
        """Epochs before this one are complete."""
        self._closed: set[tuple[int, int]] = set()
        self._counts: Counter[str] = Counter()
        self._issued_kept = 0
        self.version = PolicyVersion(0, 0)
        self.engine_version: PolicyVersion | None = None

    # -- what the driver does

    def engines_hold(self, version: PolicyVersion) -> None:
        """Record that every live engine holds these weights; older reports are void."""
        if self.engine_version is None or version > self.engine_version:
            self.engine_version = version

    def issuable(self) -> int:
        """How many more groups keep within the staleness bound.

        None may be issued before the engines hold weights of the current incarnation.
        """
        held = self.engine_version
        if held is None or held.incarnation != self.version.incarnation:
            return 0
        allowed = (held.step + 1 + self._max_staleness) * self._batch_size
        return max(0, allowed - self._issued_kept)

    def issue(self, epoch: int, index: int, page_id: str) -> str:
        """Open the group of a page position and return its id.

        Raises:
            ValueError: the position is open or closed already, or the bound forbids it.
        """
        if not self.issuable():
            raise ValueError("the staleness bound forbids issuing another group now")
        group_id = f"{epoch}-{index}-{self.version.incarnation}"
        if self.is_used(epoch, index):
            raise ValueError(f"page position ({epoch}, {index}) was issued before")
        self._live[group_id] = GroupRecord(
            group_id, epoch, index, page_id, GroupState.ISSUED, self.engine_version
        )
        self._issued_kept += 1
        self._counts["issued"] += 1
        return group_id

    def ready(self, group_id: str, oldest: PolicyVersion) -> bool:
        """Record that all rollouts of a group are scored; False if the report is void."""
        record = self._live.get(group_id)
        if record is None or record.state is not GroupState.ISSUED:
            return False
        self._live[group_id] = replace(record, state=GroupState.READY, version=oldest)
        return True

    def drop(self, group_id: str, reason: str) -> bool:
        """Close a group untrained, freeing its place; False if the report is void."""
        record = self._live.get(group_id)
        if record is None or record.state is GroupState.LEASED:
            return False
        self._close(record)
        self._issued_kept -= 1
        self._counts[f"dropped/{reason}"] += 1
        return True

    def skip_page(self, epoch: int, index: int, reason: str) -> bool:
        """Close a position that never became a group (a bad page)."""
        if self.is_used(epoch, index):
            return False
        self._closed.add((epoch, index))
        self._counts[f"dropped/{reason}"] += 1
        return True

    def set_aside(self, epoch: int, index: int) -> bool:
        """Close a position whose page is left out of this epoch; no group is dropped for it."""
        if self.is_used(epoch, index):
            return False
        self._closed.add((epoch, index))
        self._counts["set_aside"] += 1
        return True

    # -- what the learner does

    def lease(self, batch_id: str, *, at_least: int | None = None) -> list[str] | None:
        """Take the next batch, or None while too few groups are ready or a due one is not.

        Groups that the staleness bound no longer admits are dropped first. A batch leased before
        and not committed is handed out again, so that all ranks, and a rank that asks twice, see
        the same groups.

        Args:
            batch_id: names the lease.
            at_least: accept a batch this small (when the pages run out).
        """
        again = [r.group_id for r in self._ordered() if r.batch_id == batch_id]
        if again:
            return again
        self.drop_stale()
        ready = self.open_groups(GroupState.READY)
        if any(map(self._is_due, self.open_groups(GroupState.ISSUED))):
            return None
        if len(ready) < (self._batch_size if at_least is None else at_least) or not ready:
            return None
        first = sorted(ready, key=lambda r: not self._is_due(r))[: self._batch_size]
        taken = sorted(first, key=lambda r: (r.epoch, r.index))
        for record in taken:
            self._live[record.group_id] = replace(
                record, state=GroupState.LEASED, batch_id=batch_id
            )
        return [record.group_id for record in taken]

    def drop_stale(self) -> list[GroupRecord]:
        """Close and return the ready groups made by weights older than the bound admits."""
        oldest = self.version.step - self._max_staleness
        ready = self.open_groups(GroupState.READY)
        stale = [r for r in ready if r.version is not None and r.version.step < oldest]
        for record in stale:
            self.drop(record.group_id, "stale")
        return stale

    def _is_due(self, record: GroupRecord) -> bool:
        """Whether the next batch is the last that may take the group."""
        assert record.version is not None
        return record.version.step + self._max_staleness <= self.version.step

    def commit(self, batch_id: str, version: PolicyVersion) -> list[GroupRecord]:
        """Close a leased batch; the step that learnt from it produced `version`.

        Returns:
            Its groups.

        Raises:
            ValueError: the lease is unknown, or the version does not follow the current one.
        """
        taken = [r for r in self._live.values() if r.batch_id == batch_id]
        if not taken:
            raise ValueError(f"batch {batch_id} is not leased")
        follows = PolicyVersion(self.version.incarnation, self.version.step + 1)
        if version != follows:
            raise ValueError(f"version {version} committed, {follows} expected")
        for record in taken:
            self._close(record)
            self._counts["committed"] += 1
        # The bound counts in whole batches: a short last batch counts as a full one.
        self._issued_kept += self._batch_size - len(taken)
        self.version = version
        return taken

    # -- restart

    def snapshot(self) -> dict[str, Any]:
        """JSON-able state to save with the weights: closed positions and ready groups.

        Issued groups are left out: their work dies with the processes, and they are issued again.
        Leased groups are saved as ready: between lease and commit they are not in the weights.
        """
        kept = [r for r in self._ordered() if r.state in (GroupState.READY, GroupState.LEASED)]
        return {
            "version": str(self.version),
            "closed_epoch": self._closed_epoch,
            "closed": sorted(self._closed),
            "ready": [[r.epoch, r.index, r.page_id, str(r.version), r.group_id] for r in kept],
            "counts": dict(self._counts),
        }

    def restore(self, snapshot: dict[str, Any], incarnation: int) -> None:
        """Return to a snapshot under a new incarnation.

        Raises:
            ValueError: the incarnation was used before.
        """
        saved = PolicyVersion.parse(snapshot["version"])
        if incarnation <= max(saved.incarnation, self.version.incarnation) and incarnation != 0:
            raise ValueError(f"incarnation {incarnation} was used before")
        self._closed_epoch = snapshot["closed_epoch"]
        self._closed = {(int(e), int(i)) for e, i in snapshot["closed"]}
        self._live = {
            group_id: GroupRecord(
                group_id, epoch, index, page_id, GroupState.READY, PolicyVersion.parse(version)
            )
            for epoch, index, page_id, version, group_id in snapshot["ready"]
        }
        self._counts = Counter(snapshot["counts"])
        self.version = PolicyVersion(incarnation, saved.step)
        self.engine_version = None
        self._issued_kept = saved.step * self._batch_size + len(self._live)

    # -- questions

    def epoch_of(self, group_id: str) -> int | None:
        """The epoch of an open group."""
        record = self._live.get(group_id)
        return None if record is None else record.epoch

    def is_closed(self, epoch: int, index: int) -> bool:
        """Whether a position was trained, dropped or set aside."""
        return epoch < self._closed_epoch or (epoch, index) in self._closed

    def is_used(self, epoch: int, index: int) -> bool:
        """Whether a position is closed or its group is open."""
        return self.is_closed(epoch, index) or any(
            r.epoch == epoch and r.index == index for r in self._live.values()
        )

    def next_position(self, epoch_size: int) -> tuple[int, int]:
        """First position, in order, that is neither open nor closed."""
        epoch, index = self._closed_epoch, 0
        busy = {(r.epoch, r.index) for r in self._live.values()} | self._closed
        while (epoch, index) in busy:
            epoch, index = (epoch, index + 1) if index + 1 < epoch_size else (epoch + 1, 0)
        return epoch, index

    def close_epochs(self, epoch_size: int) -> None:
        """Forget the positions of complete epochs (bounds memory)."""
        # the length first: it is asked after every step, and most do not end an epoch
        while len(self._closed) >= epoch_size:
            done = {(self._closed_epoch, i) for i in range(epoch_size)}
            if not done <= self._closed:
                break
            self._closed -= done
            self._closed_epoch += 1

    @property
    def closed(self) -> int:
        """Pages trained, dropped or set aside since the run began."""
        return sum(n for name, n in self._counts.items() if name != "issued")

    @property
    def counts(self) -> dict[str, int]:
        """Groups issued, committed and, per reason, dropped, and pages set aside, in the run."""
        return dict(self._counts)

    def open_groups(self, state: GroupState | None = None) -> list[GroupRecord]:
        """Open groups in issue order."""
        return [r for r in self._ordered() if state is None or r.state is state]

    def _ordered(self) -> list[GroupRecord]:
        return sorted(self._live.values(), key=lambda r: (r.epoch, r.index))

    def _close(self, record: GroupRecord) -> None:
        del self._live[record.group_id]
        self._closed.add((record.epoch, record.index))
