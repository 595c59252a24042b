"""Typed metric reductions, and the interface of metric sinks.

The reduction of a quantity is chosen where it is measured (`Mean`, `Sum`, `Max`, `Last`); `merge`
combines parts and ranks, and sinks receive one flat row per step: always `metrics.jsonl`, and W&B
and the console if configured. Names are `room/quantity`; waits are `time/*` in seconds.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Mean:
    """A weighted mean that merges exactly."""

    total: float
    weight: float = 1.0

    @classmethod
    def of(cls, values: Iterable[float]) -> Mean:
        """Mean of a list of numbers."""
        numbers = [float(v) for v in values]
        return cls(math.fsum(numbers), float(len(numbers)))

    def merge(self, other: Mean) -> Mean:
        """Combine with the same quantity from elsewhere."""
        return Mean(self.total + other.total, self.weight + other.weight)

    def value(self) -> float:
        """The mean; NaN if nothing was measured."""
        return self.total / self.weight if self.weight else math.nan


@dataclass(frozen=True, slots=True)
class EffectiveShare:
    """Effective sample size of importance weights as a share of the samples: 1 if all weigh alike.

    (sum of weights)^2 / (number x sum of squared weights), Kish 1965.
    """

    total: float
    squares: float
    count: float

    def merge(self, other: EffectiveShare) -> EffectiveShare:
        """Combine with samples from elsewhere."""
        return EffectiveShare(
            self.total + other.total, self.squares + other.squares, self.count + other.count
        )

    def value(self) -> float:
        """The share; 0 if every weight is zero, NaN if there are none."""
        if not self.count:
            return math.nan
        return self.total**2 / (self.count * self.squares) if self.squares else 0.0


@dataclass(frozen=True, slots=True)
class Sum:
    """A count or amount."""

    total: float

    def merge(self, other: Sum) -> Sum:
        """Add."""
        return Sum(self.total + other.total)

    def value(self) -> float:
        """The sum."""
        return self.total


@dataclass(frozen=True, slots=True)
class Max:
    """The largest value seen."""

    largest: float

    def merge(self, other: Max) -> Max:
        """Keep the larger."""
        return Max(max(self.largest, other.largest))

    def value(self) -> float:
        """The maximum."""
        return self.largest


@dataclass(frozen=True, slots=True)
class Last:
    """The newest value, for settings and positions (learning rate, epoch)."""

    newest: float

    def merge(self, other: Last) -> Last:
        """Keep the other one, which is newer."""
        return other

    def value(self) -> float:
        """The newest value."""
        return self.newest


Reduction: TypeAlias = Mean | EffectiveShare | Sum | Max | Last
Measurements: TypeAlias = dict[str, Reduction]


def merge(*parts: Mapping[str, Reduction]) -> Measurements:
    """Merge the measurements of several parts, name by name.

    Raises:
        ValueError: one name is reduced in two ways.
    """
    merged: Measurements = {}
    for part in parts:
        for name, reduction in part.items():
            present = merged.get(name)
            if present is None:
                merged[name] = reduction
            elif type(present) is not type(reduction):
                raise ValueError(f"metric {name}: reduced both as {present} and {reduction}")
            else:
                merged[name] = present.merge(reduction)  # type: ignore[arg-type]
    return merged


def flatten(measurements: Mapping[str, Reduction]) -> dict[str, float]:
    """One number per name."""
    return {name: reduction.value() for name, reduction in sorted(measurements.items())}


class Clock:
    """Seconds spent in consecutive, named parts of a step."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self.spans: list[tuple[str, float, float]] = []
        """Name, start and end of every lap, in seconds since the epoch."""
        self._since = time.monotonic()
        self._epoch = time.time() - self._since

    def lap(self, name: str) -> None:
        """Assign the time since the last lap to a part."""
        now = time.monotonic()
        self.parts[name] = self.parts.get(name, 0.0) + now - self._since
        self.spans.append((name, self._epoch + self._since, self._epoch + now))
        self._since = now

    def measurements(self) -> Measurements:
        """`time/<part>`: the slowest rank counts."""
        return {f"time/{name}": Max(seconds) for name, seconds in self.parts.items()}


class Sink(Protocol):
    """A destination for rows of metrics."""

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Take one step's row."""

    def close(self) -> None:
        """Flush and release."""


def gauge_name(key: str) -> str:
    """Name of a metric in Ray: `reward/bench/mean` -> `olmrl_reward_bench_mean`.

    Ray adds the prefix `ray_` on export.
    """
    return "olmrl_" + re.sub(r"[^A-Za-z0-9_]+", "_", key)


def read_rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Rows of a metrics.jsonl or steps.jsonl; an incomplete last line (killed run) is ignored."""
    return list(iterate_rows(path))


def iterate_rows(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The same one by one: the file of a long run has tens of megabytes."""
    with Path(path).open(encoding="utf-8", newline="\n") as stream:
        for line in stream:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                break
