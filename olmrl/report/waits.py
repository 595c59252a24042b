"""Who waits for whom: how learner and engines spend a step, from a run's newest rows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Columns = Mapping[str, tuple[Sequence[float], Sequence[float]]]

_STEPS = 20
"""Newest steps looked at."""
_LEARNER = {
    "learner": "computes",
    "lease_wait": "waits for groups",
    "data_wait": "waits for pages",
    "weight_sync": "sends weights",
    "pack": "packs rows",
    "parity": "is checked against the engines",
    "checkpoint": "saves",
}
"""Laps of the learner's step that follow each other."""
_WAITS = ("waits for groups", "waits for pages", "wait for work")
_LARGE, _SMALL = 0.25, 0.1
"""Shares of a step."""


@dataclass(frozen=True, slots=True)
class Spent:
    """How one side spends a step."""

    who: str
    parts: tuple[tuple[str, float], ...]
    """What it does, and the share of its step."""
    seconds: float
    """Median seconds of a step."""

    def share(self, what: str) -> float:
        """Share of one part; 0 if there is none."""
        return dict(self.parts).get(what, 0.0)

    @property
    def waiting(self) -> frozenset[str]:
        """Parts in which it does nothing."""
        return frozenset(_WAITS)


@dataclass(frozen=True, slots=True)
class Waits:
    """Who waits for whom."""

    sentence: str
    sides: tuple[Spent, ...]


def waits(columns: Columns, config: Mapping[str, Any]) -> Waits | None:
    """What the newest steps say; None before the first.

    Args:
        columns: of metrics.jsonl.
        config: the run's configuration.
    """
    learner = _learner(columns)
    if learner is None:
        return None
    engines = _engines(columns)
    sides = (learner,) if engines is None else (learner, engines)
    return Waits(_sentence(learner, engines, config), sides)


def _learner(columns: Columns) -> Spent | None:
    found = {
        words: seconds
        for lap, words in _LEARNER.items()
        if (seconds := _newest(columns, f"time/{lap}")) is not None
    }
    total = sum(found.values())
    if not total:
        return None
    parts = tuple((what, seconds / total) for what, seconds in found.items())
    return Spent("learner", tuple(p for p in parts if p[1] >= 0.0005), total)


def _engines(columns: Columns) -> Spent | None:
    """Engines are counted together: a step has `engines x time/step` engine-seconds."""
    step, count = _newest(columns, "time/step"), _newest(columns, "rollout/engines")
    if not step or not count:
        return None
    busy, sync = (
        min(1.0, (_newest(columns, name) or 0.0) / (step * count))
        for name in ("time/engine_busy", "time/engine_sync")
    )
    sync = min(sync, 1 - busy)
    parts = (("generate", busy), ("take weights", sync), ("wait for work", 1 - busy - sync))
    return Spent("engines", tuple(p for p in parts if p[1] >= 0.0005), step)


def _sentence(learner: Spent, engines: Spent | None, config: Mapping[str, Any]) -> str:
    if engines is None:
        share = learner.share("waits for pages")
        if share < _SMALL:
            return f"The learner computes; it waits for pages {share * 100:.0f} % of a step."
        return (
            f"The learner waits for pages {share * 100:.0f} % of a step: rendering is the "
            "bottleneck. More CPUs for it, or a larger data.prefetch_pages."
        )
    waiting, idle = learner.share("waits for groups"), engines.share("wait for work")
    told = (
        f"The learner waits for groups {waiting * 100:.0f} % of a step; engines wait for work "
        f"{idle * 100:.0f} % of it"
    )
    stale = (config.get("algorithm") or {}).get("max_staleness", 0)
    if waiting > _LARGE and idle > _LARGE:
        if stale == 0:
            return (
                f"{told}: they take turns, as algorithm.max_staleness is 0. With 1 they would work "
                "at the same time."
            )
        return f"{told}: both wait, so pages, scoring or the sync of weights hold them up."
    if waiting > _LARGE:
        return f"{told}: generation is the bottleneck. More engines (rollout.workers) would help."
    if idle > _LARGE:
        return f"{told}: the learner is the bottleneck. More of the GPUs could be learners."
    return f"{told}: neither holds the other up."


def _newest(columns: Columns, name: str) -> float | None:
    """Median of a metric over the newest steps; None if it is not measured."""
    _, values = columns.get(name, ((), ()))
    return statistics.median(values[-_STEPS:]) if len(values) else None
