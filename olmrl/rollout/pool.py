"""The Driver's handle on all engines: work goes out, completions come in, whatever dies meanwhile.

    pool = RolloutPool(spec, store); pool.start(); pool.wait_ready(timeout_s)
    pool.submit(group_id, block_ref, sampling, seeds)
    for item in pool.poll(timeout_s): ...

Everything happens inside `poll` and `submit`, in the caller's thread: workers answer long polls,
and one `ray.wait` over what is outstanding moves the pool on. A worker is starting -> joining (gets
the current weights) -> ready; when it dies, breaks or stalls, a new one takes its slot and what it
owed goes back to the front of the backlog, each completion once. While engines sleep, the learner
has their memory, so a new one starts when they wake.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import ray

from olmrl.data.items import IMAGE_CALLS
from olmrl.errors import EngineBroken
from olmrl.lost import LOST, why
from olmrl.metrics import Last, Mean, Measurements, Sum, merge
from olmrl.rollout.engine import EngineStats
from olmrl.rollout.requests import Generated, GenerationFailure
from olmrl.rollout.worker import WorkerSpec, actor_class
from olmrl.types import Completion, SamplingSpec
from olmrl.weight_sync.transport import load_transport

_LONG_POLL_S = 1.0
_MAX_ATTEMPTS = 5
"""Engines that may die with a group before it is given up as their likely killer."""
_MAX_START_FAILURES = 3
_LOOK_AT_STORE_S = 5.0
_GONE = (*LOST, EngineBroken)


class EnginesFailed(ValueError):
    """Engines that cannot be brought up."""


class WorkerState(StrEnum):
    """How far a worker has come."""

    STARTING = "starting"
    JOINING = "joining"
    READY = "ready"


@dataclass(slots=True, eq=False)
class _Group:
    """A submitted group and what is missing of it."""

    group_id: str
    page: Any
    """ObjectRef of the block of its EncodedPage."""
    sampling: SamplingSpec
    seeds: tuple[int, ...]
    missing: set[int]
    """Indices not delivered."""
    needed: int
    """Completions to deliver; fewer than seeds when over-sampled."""
    delivered: int = 0
    attempts: int = 0

    @property
    def owed(self) -> int:
        """Completions still to deliver."""
        return self.needed - self.delivered


@dataclass(slots=True, eq=False)
class _Worker:
    worker_id: str
    slot: int
    handle: Any
    state: WorkerState
    pending: Any
    """Ref of the call whose answer moves the worker on: start, join or poll."""
    asked_at: float
    groups: dict[str, _Group] = field(default_factory=dict)
    stats: EngineStats | None = None

    @property
    def load(self) -> int:
        """Completions it owes."""
        return sum(len(group.missing) for group in self.groups.values())


class RolloutPool:
    """All engines as one.

    Args:
        spec: What each worker builds.
        store: WeightStore handle; a worker gets the current weights from it before its first token.
        actor_options: Ray options of the worker in a slot, on top of those from the configuration
            (placement group, fractional GPUs when colocated).
    """

    def __init__(
        self,
        spec: WorkerSpec,
        store: Any,
        *,
        actor_options: Callable[[int], Mapping[str, Any]] | None = None,
    ) -> None:
        self._spec = spec
        self._store = store
        self._options = actor_options or (lambda slot: {})
        self._workers: list[_Worker] = []
        self._backlog: deque[_Group] = deque()
        self._groups: dict[str, _Group] = {}
        self._submits: dict[Any, tuple[_Worker, _Group]] = {}
        self._born = 0
        self._start_failures = 0
        self._has_been_up = False
        """Whether an engine with these settings has ever worked."""
        self._asleep = False
        self._vacant: list[int] = []
        """Slots whose engine died while the others slept."""
        self._measured: Measurements = {}
        self._failures: list[GenerationFailure] = []
        self._events: list[dict[str, Any]] = []
        self._store_asked = 0.0
        self._store_answer: Any = None
        """Resolves if the store is alive, and fails if it is not."""

    def start(self) -> None:
        """Ask Ray for `rollout.workers` (max) workers, without waiting for them."""
        for slot in range(self._spec.config.max_workers):
            self._spawn(slot)

    def wait_ready(self, timeout_s: float) -> None:
        """Block until `rollout.workers.min` workers are ready.

        Raises:
            ValueError: an engine refused its settings or model.
            EnginesFailed: engines failed to start, or did not come up in time.
            RayActorError: The weight store has died, which engines join.
        """
        deadline = time.monotonic() + timeout_s
        while self.ready < self._spec.config.min_workers:
            self._check_store()
            self._advance(0.5)
            if time.monotonic() > deadline:
                raise EnginesFailed(
                    f"rollout.workers: {self.ready} of {self._spec.config.min_workers} engines are "
                    f"up after {timeout_s:.0f} s; does the cluster have the CPUs and GPUs for them?"
                )

    @property
    def ready(self) -> int:
        """Workers that take work."""
        return sum(worker.state is WorkerState.READY for worker in self._workers)

    @property
    def awaited(self) -> list[Any]:
        """Refs of the answers that come next: once one is there, `poll` has something to do."""
        return [worker.pending for worker in self._workers]

    @property
    def settled(self) -> bool:
        """Whether no engine is coming up."""
        return self.ready == len(self._workers)

    @property
    def unfinished(self) -> int:
        """Completions submitted and not yet delivered."""
        return sum(group.owed for group in self._groups.values())

    def submit(
        self,
        group_id: str,
        page: Any,
        sampling: SamplingSpec,
        seeds: Sequence[int],
        *,
        needed: int | None = None,
    ) -> None:
        """Queue one group.

        Args:
            group_id: Unique among unfinished groups.
            page: ObjectRef of the block of its EncodedPage (`data.payload`), which goes to a
                worker's node once.
            sampling: Temperature, top_p, length, greedy.
            seeds: One per completion to start.
            needed: Deliver the first `needed` of them to finish and abort the rest
                (`rollout.oversample`; prefers short completions); None: all.

        Raises:
            ValueError: the group is already there.
        """
        if group_id in self._groups:
            raise ValueError(f"group {group_id}: submitted twice")
        group = _Group(
            group_id,
            page,
            sampling,
            tuple(seeds),
            set(range(len(seeds))),
            len(seeds) if needed is None else needed,
        )
        self._groups[group_id] = group
        self._backlog.append(group)
        self._dispatch()

    def poll(self, timeout_s: float) -> list[Generated]:
        """Completions that finished; waits up to `timeout_s` for something to happen.

        A group that cannot be generated comes as one `GenerationFailure`, and nothing else of it.

        Raises:
            RayActorError: The weight store has died; no engine would get weights again.
        """
        self._check_store()
        outputs = self._advance(timeout_s)
        self._dispatch()
        return outputs

    def abort(self, group_ids: Sequence[str]) -> None:
        """Forget groups: nothing more of them is delivered."""
        gone = {g for g in group_ids if self._groups.pop(g, None) is not None}
        self._backlog = deque(group for group in self._backlog if group.group_id not in gone)
        for worker in self._workers:
            mine = [g for g in worker.groups if g in gone]
            for group_id in mine:
                self._count("rollout/aborted", len(worker.groups.pop(group_id).missing))
            if mine:
                worker.handle.abort.remote(mine)

    def sleep(self) -> None:
        """All engines release GPU memory (colocated learner); returns when they have.

        One that dies meanwhile has released its memory too, and is replaced at the next `wake`.
        """
        self._asleep = True
        self._of_all("sleep")

    def wake(self) -> None:
        """All engines take it back, and missing ones start; a weight sync must follow."""
        self._of_all("wake")
        self._asleep = False
        vacant, self._vacant = self._vacant, []
        for slot in vacant:
            self._spawn(slot)

    def _of_all(self, method: str) -> None:
        for answer in [getattr(w.handle, method).remote() for w in self._ready_workers()]:
            with contextlib.suppress(*_GONE):
                ray.get(answer)

    def measurements(self) -> Measurements:
        """What was counted since the last call, and how loaded the pool is."""
        counted, self._measured = self._measured, {}
        return counted | {
            "rollout/engines": Last(self.ready),
            "rollout/unfinished": Last(self.unfinished),
            "rollout/backlog": Last(len(self._backlog)),
        }

    def take_events(self) -> list[dict[str, Any]]:
        """Engines that came up or were lost since the last call, for the log."""
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            ray.kill(worker.handle, no_restart=True)
        self._workers, self._groups, self._submits = [], {}, {}
        self._vacant = []
        self._backlog.clear()

    def _spawn(self, slot: int) -> None:
        self._born += 1
        worker_id = f"engine-{slot}.{self._born}"
        ray_workers = load_transport(self._spec.transport).ray_workers
        actor = actor_class(
            self._spec.config, self._spec.use_gpu, ray_workers=ray_workers, **self._options(slot)
        )
        handle = actor.remote(worker_id, slot, self._spec)
        starting = handle.start.remote()
        self._workers.append(
            _Worker(worker_id, slot, handle, WorkerState.STARTING, starting, time.monotonic())
        )

    def _ready_workers(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.state is WorkerState.READY]

    def _dispatch(self) -> None:
        """Hand backlog to the least loaded workers, keeping each one group ahead of its batch."""
        while self._backlog and (ready := self._ready_workers()):
            worker = min(ready, key=lambda w: w.load)
            if worker.load >= self._spec.config.max_num_seqs:
                return
            group = self._backlog.popleft()
            group.attempts += 1
            worker.groups[group.group_id] = group
            reference = worker.handle.submit.remote(
                group.group_id,
                group.page,
                group.sampling,
                group.seeds,
                tuple(sorted(group.missing)),
            )
            self._submits[reference] = (worker, group)

    def _advance(self, timeout_s: float) -> list[Generated]:
        """Wait for any answer, take all that are there, and replace what died or stalled."""
        waiting = {worker.pending: worker for worker in self._workers}
        references = [*waiting, *self._submits]
        if references:
            ray.wait(references, timeout=timeout_s)
            done, _ = ray.wait(references, num_returns=len(references), timeout=0)
        else:
            done = []
        outputs: list[Generated] = []
        for reference in done:
            worker = waiting.get(reference)
            if reference in self._submits:
                self._submitted(reference)
            # Otherwise it is of a worker that was found dead earlier in this loop.
            elif worker is not None and worker in self._workers:
                outputs += self._answered(worker)
        self._replace_stalled()
        outputs += self._failures
        self._failures = []
        return outputs

    def _check_store(self) -> None:
        """Ask the store for a sign of life every few seconds, without waiting for it."""
        if self._store_answer is None:
            if time.monotonic() - self._store_asked > _LOOK_AT_STORE_S:
                self._store_answer = self._store.version.remote()
        elif ray.wait([self._store_answer], timeout=0)[0]:
            ray.get(self._store_answer)
            self._store_answer, self._store_asked = None, time.monotonic()

    def _submitted(self, reference: Any) -> None:
        """A worker took a group, or could not."""
        worker, group = self._submits.pop(reference)
        try:
            self._count("rollout/page_bytes", ray.get(reference))
        except _GONE:
            return  # its long poll fails too, and the group is re-issued with the others
        except (ray.exceptions.RayTaskError, ray.exceptions.ObjectLostError) as error:
            worker.groups.pop(group.group_id, None)
            self._fail(group, f"{group.group_id}: {why(error)}")

    def _answered(self, worker: _Worker) -> list[Generated]:
        """Move a worker on by the answer it gave."""
        try:
            answer = ray.get(worker.pending)
        except _GONE as error:
            self._lost(worker, "rollout/restarts", error)
            return []
        except ray.exceptions.RayTaskError as error:
            if worker.state is WorkerState.READY:
                raise
            self._lost(worker, "rollout/restarts", error)
            return []
        if worker.state is WorkerState.STARTING:
            worker.state = WorkerState.JOINING
            self._ask(worker, worker.handle.join.remote(self._store))
            self._count("time/engine_start", answer)
            return []
        if worker.state is WorkerState.JOINING:
            worker.state = WorkerState.READY
            self._events.append({"event": "engine ready", "engine": worker.worker_id})
            self._start_failures = 0
            self._has_been_up = True
            self._ask(worker, worker.handle.poll.remote(_LONG_POLL_S))
            self._dispatch()
            return []
        self._ask(worker, worker.handle.poll.remote(_LONG_POLL_S))
        self._count_stats(worker, answer.stats)
        delivered = [self._deliver(worker, output) for output in answer.outputs]
        return [output for output in delivered if output is not None]

    def _ask(self, worker: _Worker, reference: Any) -> None:
        worker.pending = reference
        worker.asked_at = time.monotonic()

    def _deliver(self, worker: _Worker, output: Generated) -> Generated | None:
        """Hand a completion on once; over-sampled ones are numbered in order of finish."""
        group = worker.groups.get(output.group_id)
        if isinstance(output, GenerationFailure):
            if group is not None:
                del worker.groups[group.group_id]
                self._fail(group, output.reason)
            return None
        if group is None or output.index not in group.missing:
            self._count("rollout/unwanted", 1)
            return None
        group.missing.discard(output.index)
        if len(group.seeds) > group.needed:
            output = replace(output, index=group.delivered)
        group.delivered += 1
        self._count_completion(output)
        if group.owed == 0:
            del worker.groups[group.group_id], self._groups[group.group_id]
            if group.missing:
                self._count("rollout/aborted", len(group.missing))
                worker.handle.abort.remote([group.group_id])
        return output

    def _fail(self, group: _Group, reason: str) -> None:
        if self._groups.pop(group.group_id, None) is not None:
            self._count("rollout/failed_groups", 1)
            self._failures.append(GenerationFailure(group.group_id, reason))

    def _replace_stalled(self) -> None:
        limit = self._spec.config.stall_timeout_s
        now = time.monotonic()
        for worker in self._ready_workers():
            silent = now - worker.asked_at > limit + _LONG_POLL_S
            stats = worker.stats
            stuck = stats is not None and max(stats.idle_s, stats.updating_s) > limit
            if silent or stuck:
                self._lost(worker, "rollout/stalls", None)

    def _lost(self, worker: _Worker, counter: str, error: Exception | None) -> None:
        """Replace a worker and take back what it owed."""
        reason = "makes no progress" if error is None else why(error)
        event = {"event": "engine lost", "engine": worker.worker_id, "reason": reason}
        self._events.append(event | {"reissued_groups": list(worker.groups)})
        if worker.state is WorkerState.STARTING:
            self._failed_start(worker, error)
        self._workers.remove(worker)
        ray.kill(worker.handle, no_restart=True)
        self._store.unregister.remote(worker.worker_id)
        self._submits = {r: pair for r, pair in self._submits.items() if pair[0] is not worker}
        self._count(counter, 1)
        for group in reversed(worker.groups.values()):
            if group.attempts >= _MAX_ATTEMPTS:
                self._fail(group, f"{group.group_id}: {group.attempts} engines died working on it")
            else:
                self._count("rollout/reissued", len(group.missing))
                self._backlog.appendleft(group)
        if self._asleep:
            self._vacant.append(worker.slot)
        else:
            self._spawn(worker.slot)

    def _failed_start(self, worker: _Worker, error: Exception | None) -> None:
        """Give up when engines cannot even start.

        Settings that have worked before are not to blame: the memory of the dead engine, or of the
        learner on the same GPU, may not be free yet.

        Raises:
            ValueError: the first engines refused their settings.
            EnginesFailed: they keep failing.
        """
        self._start_failures += 1
        reason = why(error)
        if isinstance(error, ValueError) and not self._has_been_up:
            raise ValueError(reason) from error
        if self._start_failures >= _MAX_START_FAILURES:
            raise EnginesFailed(
                f"rollout.workers: {self._start_failures} engines in a row failed to start, the "
                f"last ({worker.worker_id}): {reason}"
            ) from error

    def _count(self, name: str, amount: float) -> None:
        self._measured = merge(self._measured, {name: Sum(amount)})

    def _count_completion(self, completion: Completion) -> None:
        self._measured = merge(
            self._measured,
            {
                "rollout/completions": Sum(1),
                "rollout/tokens": Sum(len(completion.token_ids)),
                "rollout/prompt_tokens": Sum(len(completion.prompt_token_ids)),
                "rollout/cached_tokens": Sum(completion.cached_tokens),
            },
        )

    def _count_stats(self, worker: _Worker, stats: EngineStats) -> None:
        before = worker.stats
        worker.stats = stats
        if before is not None:
            self._count("time/engine_busy", stats.busy_s - before.busy_s)
            self._count("time/engine_sync", stats.sync_s - before.sync_s)
            again = stats.image_calls - before.image_calls
            if again:
                self._measured = merge(self._measured, {IMAGE_CALLS: Mean(again, 0.0)})
