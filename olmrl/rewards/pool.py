"""ScorerPool: scores during generation, in worker processes that cannot stall a step.

The Driver submits each completion as it finishes and polls for whole groups:

    pool = ScorerPool(config.rewards, config.scorer, group_size=28)
    pool.submit(group_id, page_ref, completion)          # never blocks
    for item in pool.poll(timeout_s=0.1):                # PromptGroup | ScoringFailure
        ...

A group is returned once, complete, in order of `completion.index`, or one ScoringFailure says why
it is missing. Calls are queued here and go to the worker that already holds the group's page, or to
the least loaded one. If a call exceeds its deadline or crashes its worker, the worker is replaced
and the call is retried in another process (`ScorerConfig.retries`); the calls queued behind it go
to other workers.

A completion that is too long, or that stalls or kills a process at every attempt, is to blame
itself: it gets the lowest rewards (`scoring.lowest`), and its siblings are scored as ever. If that
happens to all of a group, a reward is to blame, and the group fails; likewise if a reward raises,
or returns what is no number.
Not thread-safe: all methods must be called from one thread.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from olmrl.config.schema import RewardConfig, ScorerConfig
from olmrl.lost import is_loss, is_of_node, why
from olmrl.metrics import Mean, Measurements, Sum, merge
from olmrl.rewards.registry import build_all
from olmrl.rewards.scoring import Results, combine, failure, identity, lowest
from olmrl.rewards.worker import Reply, ScorerWorker
from olmrl.types import Completion, Page, PromptGroup

START_TIMEOUT_S = 300.0
"""Longest time for a worker process to start."""

_MAX_START_FAILURES = 3
"""Number of processes in a row that may die during start-up; machines can die then too."""

_AHEAD = 4
"""Calls queued at a worker, so that it need not wait for the Driver's next poll."""

_REMEMBERED_GROUPS = 20_000
"""Number of closed groups to remember, so that their late completions are ignored."""


@dataclass(frozen=True, slots=True)
class ScoringFailure:
    """A group that could not be scored and must be dropped, counted and refilled."""

    group_id: str
    page_id: str
    """Empty if it failed before any worker saw the page."""
    reason: str
    permanent: bool
    """The page itself is unusable (invalid test); a retry would fail again."""


@dataclass(eq=False)
class _Call:
    """One request to a worker: a completion, or the whole group for the group rewards."""

    group_id: str
    completions: tuple[Completion, ...]
    whole: bool
    failures: int = 0


@dataclass(eq=False)
class _Group:
    page: Any
    page_id: str = ""
    completions: dict[int, Completion] = field(default_factory=dict)
    results: dict[Any, Results] = field(default_factory=dict)
    asked: set[Any] = field(default_factory=set)
    """Identities of the completions that are to be scored."""
    unscorable: dict[Any, str] = field(default_factory=dict)
    """Identities of those that cannot be, because of their own text, and why."""
    home: _Worker | None = None
    whole_asked: bool = False
    last_submit: float = 0.0


@dataclass(eq=False)
class _Worker:
    """Handle of one worker; it answers calls in order, so only the first one can be running."""

    handle: Any
    starting: Any
    calls: deque[tuple[Any, _Call]] = field(default_factory=deque)
    head_since: float = 0.0
    """When the first call began, as far as the Driver can tell; never earlier than it did."""

    @property
    def head(self) -> Any:
        """Ref of the next answer; None if idle."""
        if self.starting is not None:
            return self.starting
        return self.calls[0][0] if self.calls else None


class ScorerPool:
    """The Driver's handle to all scorer processes; see the module docstring."""

    def __init__(
        self, rewards: Sequence[RewardConfig], config: ScorerConfig, group_size: int
    ) -> None:
        """Start the workers.

        Raises:
            ValueError: a reward cannot be built (unknown name, wrong option).
        """
        self._reward_configs = tuple(rewards)
        self._rewards = build_all(rewards)
        self._has_group_rewards = any(entry.reward.needs_group for entry in self._rewards)
        self._config = config
        self._group_size = group_size
        self._groups: dict[str, _Group] = {}
        self._closed: dict[str, None] = {}
        self._waiting: deque[_Call] = deque()
        self._finished: list[PromptGroup | ScoringFailure] = []
        self._counts: Counter[str] = Counter()
        self._latencies: list[float] = []
        self._start_failures = 0
        self._weights: Measurements = {}
        self._workers = [self._start_worker() for _ in range(config.workers)]

    # -- called by the Driver

    def submit(self, group_id: str, page: Any, completion: Completion) -> None:
        """Hand over a finished completion.

        A completion of a closed group, or one with an index that is already there, is ignored:
        engines may replay work after a failure.

        Args:
            group_id: The prompt group.
            page: ObjectRef of its Page, or the Page itself.
            completion: What the engine returned.
        """
        if group_id in self._closed:
            return
        group = self._groups.get(group_id)
        if group is None:
            ref = ray.put(page) if isinstance(page, Page) else page
            group = self._groups[group_id] = _Group(page=ref)
        if completion.index in group.completions:
            return
        group.completions[completion.index] = completion
        group.last_submit = time.monotonic()
        limit = self._config.max_completion_chars
        key = identity(completion)
        if len(completion.text) > limit:
            size = f"{len(completion.text)} characters, at most {limit} are allowed"
            self._set_aside(group, completion, f"completion {completion.index} has {size}")
        elif key not in group.asked and key not in group.unscorable:
            group.asked.add(key)
            self._waiting.append(_Call(group_id, (completion,), whole=False))
        self._advance(group_id)
        self._dispatch()

    def poll(self, timeout_s: float) -> list[PromptGroup | ScoringFailure]:
        """Return the groups that have finished since the last call.

        Waits up to `timeout_s` for the first one; returns at once if no worker is busy.

        Raises:
            ValueError: a worker cannot start (no CPUs left, a reward its process cannot import).
        """
        end = time.monotonic() + timeout_s
        while True:
            self._collect()
            self._enforce_deadlines()
            self._dispatch()
            left = end - time.monotonic()
            if self._finished or left <= 0 or not self.awaited:
                break
            ray.wait(self.awaited, num_returns=1, timeout=min(left, self._next_deadline()))
        finished, self._finished = self._finished, []
        return finished

    def forget(self, group_id: str) -> None:
        """Drop a group that is no longer needed; its results will not be reported."""
        self._close(group_id)

    @property
    def awaited(self) -> list[Any]:
        """Refs of the next answers: once one is ready, `poll` has work to do."""
        return [worker.head for worker in self._workers if worker.head is not None]

    def measurements(self) -> Measurements:
        """What happened since the last call of this method.

        `time/score` is the time from a group's last submitted completion to its score;
        `reward/shared_completions` counts completions not scored because an equal one of the group
        was; `reward/unscorable_completions` those that got the lowest rewards because of their own
        text; `reward/NAME/weight/CATEGORY` is the weight of a curriculum category.
        """
        counts, self._counts = self._counts, Counter()
        measured: Measurements = {
            "reward/scorer_busy_seconds": Sum(counts["busy_microseconds"] / 1e6),
            "reward/scored_completions": Sum(counts["scored"]),
            "reward/shared_completions": Sum(counts["shared"]),
            "reward/timeouts": Sum(counts["timeouts"]),
            "reward/worker_deaths": Sum(counts["deaths"]),
            "reward/retries": Sum(counts["retries"]),
            "reward/unscorable_completions": Sum(counts["unscorable"]),
            "reward/failed_groups": Sum(counts["failed_groups"]),
        }
        if self._latencies:
            measured["time/score"] = Mean.of(self._latencies)
            self._latencies = []
        weights, self._weights = self._weights, {}
        return measured | weights

    def close(self) -> None:
        """Kill all workers."""
        for worker in self._workers:
            ray.kill(worker.handle)
        self._workers = []

    # -- groups

    def _advance(self, group_id: str) -> None:
        """Take the next step for a group that got new completions or results."""
        group = self._groups[group_id]
        if len(group.completions) < self._group_size or len(group.results) < len(group.asked):
            return
        if not group.asked:
            self._fail(group_id, f"no completion can be scored: {min(group.unscorable.values())}")
        elif self._has_group_rewards and not group.whole_asked:
            group.whole_asked = True
            self._waiting.append(_Call(group_id, self._scorable(group), whole=True))
        elif not self._has_group_rewards:
            self._finish(group_id, [group.results[identity(c)] for c in self._scorable(group)])

    def _scorable(self, group: _Group) -> tuple[Completion, ...]:
        """The completions that can be scored, in order."""
        ordered = (group.completions[i] for i in sorted(group.completions))
        return tuple(c for c in ordered if identity(c) not in group.unscorable)

    def _set_aside(self, group: _Group, completion: Completion, reason: str) -> None:
        """Give up on one completion, whose own text is the cause."""
        group.asked.discard(identity(completion))
        group.unscorable[identity(completion)] = reason

    def _finish(self, group_id: str, results: Sequence[Results]) -> None:
        """Close a group.

        Args:
            group_id: The group.
            results: Of those of its completions that can be scored, in order.
        """
        group = self._groups[group_id]
        ordered = [group.completions[i] for i in sorted(group.completions)]
        scored = iter(results)
        # One step for the whole group, known from its tokens alone: that of its oldest weights.
        step = min((span.version.step for c in ordered for span in c.versions), default=0)
        rollouts = []
        for completion in ordered:
            reason = group.unscorable.get(identity(completion))
            found = lowest(self._rewards, results, reason) if reason else next(scored)
            rollouts.append(combine(self._rewards, completion, found, step))
        self._weights = merge(self._weights, self._weights_at(step))
        self._counts["unscorable"] += len(ordered) - len(results)
        self._counts["shared"] += len(results) - len(group.asked)
        self._latencies.append(time.monotonic() - group.last_submit)
        self._finished.append(PromptGroup(group_id, group.page_id, tuple(rollouts), group.page))
        self._close(group_id)

    def _weights_at(self, step: int) -> Measurements:
        return {
            f"reward/{entry.name}/weight/{category}": Mean(weight)
            for entry in self._rewards
            if entry.curriculum is not None
            for category, weight in entry.curriculum.weights(step).items()
        }

    def _fail(self, group_id: str, reason: str, permanent: bool = False) -> None:
        page_id = self._groups[group_id].page_id
        self._finished.append(ScoringFailure(group_id, page_id, reason, permanent))
        self._counts["failed_groups"] += 1
        self._close(group_id)

    def _close(self, group_id: str) -> None:
        self._groups.pop(group_id, None)
        self._closed[group_id] = None
        if len(self._closed) > _REMEMBERED_GROUPS:
            del self._closed[next(iter(self._closed))]

    # -- calls

    def _dispatch(self) -> None:
        while self._waiting:
            call = self._waiting[0]
            group = self._groups.get(call.group_id)
            if group is None:
                self._waiting.popleft()
                continue
            worker = self._choose(group)
            if worker is None:
                return
            self._waiting.popleft()
            group.home = worker
            ref = worker.handle.score.remote([group.page], call.completions, call.whole)
            if not worker.calls:
                worker.head_since = time.monotonic()
            worker.calls.append((ref, call))

    def _choose(self, group: _Group) -> _Worker | None:
        """The worker that has the page, unless it is busy; else the least loaded started one."""
        free = [w for w in self._workers if w.starting is None and len(w.calls) < _AHEAD]
        if not free:
            return None
        least = min(free, key=lambda w: len(w.calls))
        if group.home in free and len(group.home.calls) <= len(least.calls) + 1:
            return group.home
        return least

    def _collect(self) -> None:
        for worker in list(self._workers):
            refs = [worker.starting] if worker.starting is not None else []
            refs += [ref for ref, _ in worker.calls]
            if not refs:
                continue
            done, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
            self._take_answers(worker, set(done))

    def _take_answers(self, worker: _Worker, done: set[Any]) -> None:
        while worker.head is not None and worker.head in done:
            ref = worker.head
            try:
                answer = ray.get(ref)
            except RayError as error:
                self._counts["deaths"] += 1
                if worker.starting is not None:
                    self._failed_start(worker, error)
                else:
                    reason = f"the scorer process died ({why(error)})"
                    self._replace(worker, reason, own_text=not is_of_node(error))
                return
            worker.head_since = time.monotonic()
            if worker.starting is not None:
                worker.starting = None
                self._start_failures = 0
            else:
                _, call = worker.calls.popleft()
                self._take(call, answer)

    def _take(self, call: _Call, reply: Reply) -> None:
        self._counts["busy_microseconds"] += int(reply.seconds * 1e6)
        self._counts["scored"] += 0 if call.whole else len(call.completions)
        group = self._groups.get(call.group_id)
        if group is None:
            return
        group.page_id = reply.page_id
        if reply.unscorable:
            self._fail(call.group_id, reply.unscorable, permanent=True)
            return
        rollouts = [
            combine(self._rewards, c, r)
            for c, r in zip(call.completions, reply.results, strict=True)
        ]
        problem = failure(rollouts)
        if problem:
            self._try_again(call, problem, own_text=False)
        elif call.whole:
            single = [group.results[identity(c)] for c in call.completions]
            self._finish(call.group_id, [a | b for a, b in zip(single, reply.results, strict=True)])
        else:
            group.results[identity(call.completions[0])] = reply.results[0]
            self._advance(call.group_id)

    def _try_again(self, call: _Call, reason: str, *, own_text: bool) -> None:
        """Ask once more, in another process; after the last attempt, give up.

        Args:
            call: What failed.
            reason: Why.
            own_text: A text that fails every time is to blame, not a reward.
        """
        if call.group_id not in self._groups:
            return
        call.failures += 1
        if call.failures > self._config.retries:
            tries = f"after {call.failures} attempts" if call.failures > 1 else "without a retry"
            problem = f"scoring failed {tries}: {reason}"
            if own_text and not call.whole:
                self._set_aside(self._groups[call.group_id], call.completions[0], problem)
                self._advance(call.group_id)
            else:
                self._fail(call.group_id, problem)
            return
        self._counts["retries"] += 1
        self._waiting.appendleft(call)

    # -- workers

    def _start_worker(self) -> _Worker:
        actor = ray.remote(
            num_cpus=self._config.cpus_per_worker,
            resources=self._config.resources,
            max_restarts=0,
        )(ScorerWorker)
        memory = int(self._config.max_memory_gb * 2**30)
        handle: Any = actor.remote(self._reward_configs, memory)
        return _Worker(handle, handle.ready.remote(), head_since=time.monotonic())

    def _failed_start(self, worker: _Worker, error: RayError) -> None:
        """Start another process in place of one that never came up.

        Raises:
            ValueError: it cannot build its rewards, or too many others have died before it.
        """
        self._start_failures += 1
        refused = not is_loss(error)
        if refused or self._start_failures == _MAX_START_FAILURES:
            raise ValueError(f"a scorer process cannot start: {why(error)}") from error
        self._workers[self._workers.index(worker)] = self._start_worker()

    def _deadline(self, worker: _Worker) -> float:
        allowed = self._config.timeout_s if worker.starting is None else START_TIMEOUT_S
        return worker.head_since + allowed

    def _next_deadline(self) -> float:
        """Seconds until the first deadline of a running call, at least a few milliseconds."""
        busy = [self._deadline(w) for w in self._workers if w.head is not None]
        return max(0.005, min(busy, default=0.0) - time.monotonic())

    def _enforce_deadlines(self) -> None:
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.head is None or now <= self._deadline(worker):
                continue
            if worker.starting is not None:
                if any(w.starting is None for w in self._workers):
                    worker.head_since = now  # the others continue while its node is missing
                    continue
                raise ValueError(
                    f"a scorer process did not start within {START_TIMEOUT_S:.0f} s; does the "
                    f"cluster have {self._config.workers} x {self._config.cpus_per_worker} CPUs "
                    "left for scorer.workers x scorer.cpus_per_worker?"
                )
            self._counts["timeouts"] += 1
            self._replace(worker, f"no result within {self._config.timeout_s:g} s")

    def _replace(self, worker: _Worker, reason: str, *, own_text: bool = True) -> None:
        """Kill a worker and start another; only its running call is to blame, if any is."""
        ray.kill(worker.handle)
        self._workers[self._workers.index(worker)] = self._start_worker()
        calls = [call for _, call in worker.calls]
        self._waiting.extendleft(reversed(calls[1:]))
        self._try_again(calls[0], reason, own_text=own_text)
