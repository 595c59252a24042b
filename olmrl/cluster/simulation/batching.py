"""Continuous batching in one engine, as the simulation sees it.

Running sequences share the engine evenly. `progress` is the number of tokens that a sequence
running since the start would have produced, so a sequence of n tokens that enters at progress a
leaves at a + n, and events are only due when sequences enter or leave.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass

_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Lengths:
    """Completion lengths: log-normal, truncated at a limit."""

    mean: float
    """Mean tokens before truncation."""
    spread: float
    """Standard deviation of the logarithm; 0 makes all equal."""
    limit: int
    """Maximum tokens."""

    def draw(self, rng: random.Random) -> float:
        """One length, at least one token."""
        if self.spread == 0.0:
            return min(self.mean, self.limit)
        centre = math.log(self.mean) - self.spread**2 / 2
        return max(1.0, min(rng.lognormvariate(centre, self.spread), self.limit))


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds per operation."""

    prefill: float = 0.0
    """One page's prompt and image, once per group."""
    refill_token: float = 0.0
    """One token of a running sequence, recomputed after a weight update."""
    decode_step: float = 0.0
    """One engine step, whatever its batch."""
    decode_weights: float = 0.0
    """Reading the weights, per step."""
    decode_context: float = 0.0
    """Reading the keys and values of one token, per step."""
    decode_state: float = 0.0
    """Reading and writing the recurrent state of one sequence, per step."""
    decode_sequence: float = 0.0
    """Arithmetic of one sequence, per step; overlaps with reading and writing."""
    score: float = 0.0
    """One completion on one scorer."""
    learn_page: float = 0.0
    """One page on one learner rank: encoding, vision tower, prompt; all passes."""
    learn_token: float = 0.0
    """One completion token on one learner rank; all passes."""
    learn_step: float = 0.0
    """One optimizer step, whatever its batch."""
    sync: float = 0.0
    """One weight update, during which learner and engines are stopped."""
    handover: float = 0.0
    """One hand-over from one part to the next through the Driver."""

    def step(self, sequences: int, context: float) -> float:
        """One decode step for a batch with `context` tokens in total."""
        memory = self.decode_weights + self.decode_context * context
        memory += self.decode_state * sequences
        return self.decode_step + max(self.decode_sequence * sequences, memory)


@dataclass(slots=True, eq=False)
class Group:
    """A page with its requested completions."""

    number: int
    """In order of issue."""
    lengths: list[float]
    """Tokens of each completion."""
    held: int = 0
    """Version of the engines' weights when it was issued."""
    version: int = -1
    """Version of the weights of its first token."""
    missing: int = 0
    """Number of completions still missing."""
    generated_at: float = 0.0
    scored_at: float = 0.0

    @property
    def tokens(self) -> float:
        """Tokens of all completions."""
        return sum(self.lengths)


class SimulatedEngine:
    """One engine; see the module's docstring."""

    def __init__(self, costs: Costs, slots: int, prompt: int) -> None:
        self.costs, self.slots, self.prompt = costs, slots, prompt
        self.running: list[tuple[float, int, float, Group]] = []
        """Heap of (progress at which it leaves, tie-break, length, group)."""
        self.waiting: deque[tuple[float, Group]] = deque()
        self.at = self.busy = self.progress = self.resume = 0.0
        self.context = 0.0
        """Sum over running sequences of (prompt - progress at entry)."""
        self.rate = 0.0
        self.load = self.stamp = 0

    def advance(self, now: float) -> None:
        """Advance running sequences to `now`."""
        start = max(self.at, self.resume)
        if now > start and self.running:
            self.progress += (now - start) * self.rate
            self.busy += now - start
        self.at = now

    def block(self, now: float, seconds: float, working: bool) -> None:
        """Decode nothing for the given seconds."""
        self.resume = max(self.resume, now) + seconds
        if working:
            self.busy += seconds

    def admit(self, version: int, serial: list[int]) -> None:
        """Start waiting sequences as long as there are slots."""
        while self.waiting and len(self.running) < self.slots:
            length, group = self.waiting.popleft()
            if group.version < 0:
                group.version = version
            serial[0] += 1
            heapq.heappush(self.running, (self.progress + length, serial[0], length, group))
            self.context += self.prompt - self.progress

    def due(self, now: float) -> float | None:
        """When the next sequence finishes, if nothing else happens."""
        if not self.running:
            return None
        left = max(0.0, self.running[0][0] - self.progress)
        count = len(self.running)
        context = self.context + count * (self.progress + left / 2)
        self.rate = 1.0 / max(self.costs.step(count, context), _EPSILON)
        return max(now, self.resume) + left / self.rate

    def leave(self) -> list[Group]:
        """Remove the finished sequences; returns their groups."""
        done = []
        while self.running and self.running[0][0] <= self.progress + 1e-6:
            finish, _, length, group = heapq.heappop(self.running)
            self.context -= self.prompt - (finish - length)
            done.append(group)
        return done

    def refill(self) -> float:
        """Seconds to recompute all running sequences under new weights."""
        if not self.running:
            return 0.0
        made = self.context + len(self.running) * (self.progress - self.prompt)
        pages = len({id(group) for _, _, _, group in self.running})
        return pages * self.costs.prefill + made * self.costs.refill_token

    def abort(self, group: Group) -> int:
        """Remove a group's sequences; returns how many there were."""
        before = len(self.running) + len(self.waiting)
        for finish, _, length, owner in self.running:
            if owner is group:
                self.context -= self.prompt - (finish - length)
        self.running = [entry for entry in self.running if entry[3] is not group]
        heapq.heapify(self.running)
        self.waiting = deque(entry for entry in self.waiting if entry[1] is not group)
        return before - len(self.running) - len(self.waiting)
