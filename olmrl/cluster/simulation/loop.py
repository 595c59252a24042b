"""Discrete-event simulation of a GRPO run: who waits for whom, and how long a step takes.

    pages -> engines (continuous batching) -> scorers (first come, first served) -> learner -> sync

The ledger's bound is the real one: if engines hold weights of version v, at most
(v + 1 + max_staleness) x pages_per_step groups may have been issued and not dropped. Nothing is
measured here; all times come from `costs`.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass, field

from olmrl.cluster.simulation.batching import Costs, Group, Lengths, SimulatedEngine


@dataclass(frozen=True, slots=True)
class Setup:
    """The layout of a run."""

    engines: int
    slots: int
    """Sequences decoded together by one engine."""
    learners: int
    """Number of ranks; each group is trained on by one of them."""
    scorers: int
    pages_per_step: int
    group_size: int
    lengths: Lengths
    prompt: int = 0
    """Prompt tokens of a page."""
    oversample: int = 0
    """Completions started beyond the group size; the slowest are aborted."""
    max_staleness: int = 0
    dropped: float = 0.0
    """Share of groups without reward variance, which are refilled."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Means over the steps after the warm-up."""

    step_s: float
    """Seconds per optimizer step."""
    engines_idle: float
    """Idle share of engine time (weight updates count as idle)."""
    learners_idle: float
    """Idle share of rank time: waiting, or finished before the slowest rank."""
    scorers_idle: float
    shares: dict[str, float]
    """Shares of the learner's time: generation, scoring, learning, sync; sum to 1."""
    counts: dict[str, int]
    """Groups issued, committed, dropped (no variance) and open at the end; completions."""

    @property
    def bottleneck(self) -> str:
        """What takes the largest share of the learner's time."""
        return max(self.shares, key=lambda name: self.shares[name])


@dataclass(slots=True)
class _Tally:
    """Totals at one moment; a forecast comes from the difference of two."""

    at: float = 0.0
    engines: float = 0.0
    learners: float = 0.0
    scorers: float = 0.0
    shares: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("generation", "scoring", "learning", "sync"), 0.0)
    )


class _Run:
    """The state of one simulation."""

    def __init__(self, setup: Setup, costs: Costs, seed: int) -> None:
        self.setup, self.costs = setup, costs
        self.rng = random.Random(seed)
        self.engines = [
            SimulatedEngine(costs, setup.slots, setup.prompt) for _ in range(setup.engines)
        ]
        self.scorers = [0.0] * setup.scorers
        self.events: list[tuple[float, int, str, object, int]] = []
        self.serial = [0]
        self.backlog: deque[Group] = deque()
        self.ready: list[Group] = []
        self.open: dict[int, Group] = {}
        """Groups issued but not yet scored, by number."""
        self.owner: dict[int, SimulatedEngine] = {}
        self.now = 0.0
        self.engine_version = self.version = 0
        self.kept = 0
        self.free_since: float | None = 0.0
        """Since when the learner has been waiting for a batch; None while it works."""
        self.tally = _Tally()
        self.counts = dict.fromkeys(("issued", "committed", "dropped", "completions", "aborted"), 0)

    def push(self, at: float, kind: str, item: object = None, stamp: int = 0) -> None:
        self.serial[0] += 1
        heapq.heappush(self.events, (at, self.serial[0], kind, item, stamp))

    # -- pages to engines

    def issue(self, now: float) -> None:
        """Issue as many groups as the staleness bound allows."""
        setup = self.setup
        allowed = (self.engine_version + 1 + setup.max_staleness) * setup.pages_per_step
        while self.kept < allowed:
            self.kept += 1
            self.counts["issued"] += 1
            count = setup.group_size + setup.oversample
            lengths = [setup.lengths.draw(self.rng) for _ in range(count)]
            number = self.counts["issued"]
            group = Group(number, lengths, missing=setup.group_size, held=self.engine_version)
            self.backlog.append(group)
            self.open[number] = group
        self.dispatch(now)

    def dispatch(self, now: float) -> None:
        """Send whole groups to the least loaded engines, each kept one group ahead of its batch."""
        while self.backlog:
            engine = min(self.engines, key=lambda e: e.load)
            if engine.load >= self.setup.slots:
                return
            group = self.backlog.popleft()
            self.owner[group.number] = engine
            engine.advance(now)
            engine.block(now, self.costs.prefill, working=True)
            engine.load += len(group.lengths)
            engine.waiting.extend((length, group) for length in group.lengths)
            self.plan(engine, now)

    def plan(self, engine: SimulatedEngine, now: float) -> None:
        """Schedule the engine's next event; earlier ones become invalid."""
        engine.admit(self.engine_version, self.serial)
        engine.stamp += 1
        at = engine.due(now)
        if at is not None:
            self.push(at, "engine", engine, engine.stamp)

    # -- completions to scorers, groups to the learner

    def generated(self, engine: SimulatedEngine, now: float) -> None:
        engine.advance(now)
        for group in engine.leave():
            engine.load -= 1
            if not group.missing:
                continue  # a sibling finished at the same time and completed the group
            self.counts["completions"] += 1
            group.missing -= 1
            start = max(now + self.costs.handover, heapq.heappop(self.scorers))
            heapq.heappush(self.scorers, start + self.costs.score)
            self.tally.scorers += self.costs.score
            group.scored_at = max(group.scored_at, start + self.costs.score)
            if not group.missing:
                self.complete(engine, group, now)
        self.plan(engine, now)
        self.dispatch(now)

    def complete(self, engine: SimulatedEngine, group: Group, now: float) -> None:
        group.generated_at = now
        del self.owner[group.number]
        if self.setup.oversample:
            aborted = engine.abort(group)
            engine.load -= aborted
            self.counts["aborted"] += aborted
            group.lengths = sorted(group.lengths)[: self.setup.group_size]
        self.push(group.scored_at + self.costs.handover, "scored", group)

    def scored(self, group: Group, now: float) -> None:
        del self.open[group.number]
        if self.setup.dropped and self.rng.random() < self.setup.dropped:
            self.drop(now, group)
        else:
            self.ready.append(group)
        self.lease(now)

    def drop(self, now: float, _group: Group) -> None:
        """Close a group untrained, which frees its place for another."""
        self.counts["dropped"] += 1
        self.kept -= 1
        self.issue(now)

    # -- the learner

    def lease(self, now: float) -> None:
        """Take a batch as the ledger does: in issue order, never passing over a due group."""
        if self.free_since is None:
            return
        due = self.version - self.setup.max_staleness
        if any(group.held <= due for group in self.open.values()):
            return
        if len(self.ready) < self.setup.pages_per_step:
            return
        self.ready.sort(key=lambda group: (group.version > due, group.number))
        groups = sorted(self.ready[: self.setup.pages_per_step], key=lambda group: group.number)
        del self.ready[: self.setup.pages_per_step]
        generated = max(group.generated_at for group in groups)
        turn = min(now, max(self.free_since, generated))
        self.tally.shares["generation"] += turn - self.free_since
        self.tally.shares["scoring"] += now - turn
        self.free_since = None
        self.push(now + self.learning(groups), "learned", groups)

    def learning(self, groups: list[Group]) -> float:
        """Seconds of the slowest rank; groups are distributed longest first."""
        costs, ranks = self.costs, [0.0] * self.setup.learners
        for group in sorted(groups, key=lambda g: -g.tokens):
            work = costs.learn_page + costs.learn_token * group.tokens
            heapq.heapreplace(ranks, ranks[0] + work)
        seconds = max(ranks) + costs.learn_step
        self.tally.learners += sum(ranks) + costs.learn_step * len(ranks)
        self.tally.shares["learning"] += seconds
        return seconds

    def learned(self, now: float) -> None:
        """Commit the batch; engines and learner pause for the weight update."""
        self.version += 1
        self.counts["committed"] += self.setup.pages_per_step
        for engine in self.engines:
            engine.advance(now)
            engine.block(now, self.costs.sync, working=False)
            engine.block(now, engine.refill(), working=True)
            self.plan(engine, now)
        self.tally.shares["sync"] += self.costs.sync
        self.push(now + self.costs.sync, "synced")

    def synced(self, now: float) -> None:
        self.engine_version = self.version
        self.free_since = now
        self.push(now + self.costs.handover, "issue")
        self.lease(now)

    # -- time

    def play(self, version: int) -> None:
        """Run until `version` optimizer steps are committed."""
        if not self.counts["issued"]:
            self.issue(0.0)
        while self.version < version:
            self.now, _, kind, item, stamp = heapq.heappop(self.events)
            if isinstance(item, SimulatedEngine):
                if stamp == item.stamp:
                    self.generated(item, self.now)
            elif isinstance(item, Group):
                self.scored(item, self.now)
            elif kind == "learned":
                self.learned(self.now)
            elif kind == "synced":
                self.synced(self.now)
            else:
                self.issue(self.now)

    def measure(self) -> _Tally:
        """The totals up to now."""
        for engine in self.engines:
            engine.advance(self.now)
        tally = self.tally
        busy = sum(engine.busy for engine in self.engines)
        return _Tally(self.now, busy, tally.learners, tally.scorers, dict(tally.shares))


def simulate(setup: Setup, costs: Costs, *, steps: int = 60, seed: int = 0) -> Forecast:
    """Run a number of optimizer steps; the first fifth is warm-up and does not count.

    Args:
        setup: layout of the run.
        costs: seconds per operation.
        steps: optimizer steps, at least 2.
        seed: seed of lengths and drops.
    """
    run = _Run(setup, costs, seed)
    warm = max(1, steps // 5)
    run.play(warm)
    before = run.measure()
    run.play(steps)
    return _outcome(run, before, run.measure(), steps - warm)


def _outcome(run: _Run, before: _Tally, after: _Tally, steps: int) -> Forecast:
    seconds = after.at - before.at
    setup = run.setup

    def idle(part: str, count: int) -> float:
        busy = getattr(after, part) - getattr(before, part)
        return max(0.0, 1.0 - busy / (count * seconds)) if seconds else 0.0

    spent = {name: after.shares[name] - before.shares[name] for name in after.shares}
    whole = sum(spent.values()) or 1.0
    gone = run.counts["committed"] + run.counts["dropped"]
    return Forecast(
        step_s=seconds / steps,
        engines_idle=idle("engines", setup.engines),
        learners_idle=idle("learners", setup.learners),
        scorers_idle=idle("scorers", setup.scorers),
        shares={name: value / whole for name, value in spent.items()},
        counts=run.counts | {"open": run.counts["issued"] - gone},
    )
