"""Line charts as SVG that takes its colours from the page's style sheet, light or dark.

Points are thinned to what a chart of this size can show; of each part of a long run the smallest
and the largest value stay, so that a spike is never lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from olmrl.metric_catalogue import find

WIDTH, HEIGHT = 400, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 8, 8, 22
_DOT = 2.5
"""Radius of a line of one point."""
_MOST = 300
"""Points of a line."""
COLOURS = 6
"""Colours of the style sheet."""

Columns = Mapping[str, tuple[Sequence[float], Sequence[float]]]

CHARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "Held-out pages": {
        "pass rate": ("eval/reported/pass_rate", "eval/greedy/pass_rate",
                      "eval/sampled/pass_rate", "eval/pass_rate"),
        "pass rate by category": ("eval/greedy/category/*", "eval/category/*"),
        "reading": ("eval/greedy/reading", "eval/sampled/reading", "eval/reading",
                    "eval/edit_similarity"),
        "loss on evaluation sets": ("eval/loss", "eval/*/loss"),
    },
    "Training": {
        "reward": ("reward/mean",),
        "spread of the reward within groups": ("reward/std",),
        "rewards": ("reward/*/mean",),
        "unit tests in training": ("reward/bench/type/*",),
        "loss": ("loss/policy", "loss/sft", "loss/kl"),
        "length of completions": ("completion/mean_length", "completion/max_length"),
        "cut off": ("completion/clipped_fraction",),
        "groups without signal": ("reward/frac_zero_std",),
    },
    "Optimisation": {
        "entropy": ("policy/entropy",),
        "gradient norm": ("policy/grad_norm",),
        "learning rate": ("policy/lr",),
        "gap of engine and learner": ("mismatch/logprob_mean_abs", "parity/mean_gap"),
        "staleness": ("policy/staleness_mean", "policy/staleness_max"),
        "distance to the teacher": ("teacher/kl",),
    },
    "Throughput": {
        "seconds per step": ("time/step", "time/lease_wait", "time/learner", "time/weight_sync",
                             "time/data_wait"),
        "tokens per second": ("throughput/completion_tokens_per_s",
                              "throughput/learner_tokens_per_s"),
        "pages per second": ("throughput/pages_per_s",),
        "model FLOP/s utilisation": ("throughput/mfu",),
    },
}  # fmt: skip
"""Charts by section: title -> names of metrics; `*` stands for any part."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart."""

    label: str
    colour: int
    dash: int
    """0 for the first run, 1 for the second, ..."""
    path: str
    """SVG path data."""
    xs: str
    """Steps of the points, comma-separated; what the pointer shows."""
    ys: str
    last: str
    """Newest value."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, ready for the template."""

    title: str
    meaning: str
    lines: tuple[Line, ...]
    xticks: tuple[tuple[float, str], ...]
    """Place and label."""
    yticks: tuple[tuple[float, str], ...]


def charts(section: str, runs: Mapping[str, Columns]) -> list[Chart]:
    """The charts of a section that have something to show.

    Args:
        section: a key of `CHARTS`.
        runs: columns by run; their lines share a colour, and differ by dashes.
    """
    found = []
    for title, patterns in CHARTS[section].items():
        lines = [
            (name, run, columns[name])
            for pattern in patterns
            for name in _matching(pattern, runs)
            for run, columns in runs.items()
            if name in columns
        ]
        if any(len(points[0]) > 0 for _, _, points in lines):
            found.append(_chart(title, lines, list(runs)))
    return found


def _matching(pattern: str, runs: Mapping[str, Columns]) -> list[str]:
    """Names of metrics that a pattern stands for, in any run."""
    start, star, end = pattern.partition("*")
    names = dict.fromkeys(name for columns in runs.values() for name in columns)
    if not star:
        return [pattern] if pattern in names else []
    return sorted(
        name
        for name in names
        if len(name) > len(start) + len(end)
        and name.startswith(start)
        and name.endswith(end)
        and "/" not in name[len(start) : len(name) - len(end)]
    )


def _chart(
    title: str,
    found: Sequence[tuple[str, str, tuple[Sequence[float], Sequence[float]]]],
    runs: Sequence[str],
) -> Chart:
    xs = [x for _, _, (steps, _) in found for x in (min(steps), max(steps))]
    finite = [y for _, _, (_, values) in found for y in values if math.isfinite(y)]
    x0, x1 = min(xs), max(max(xs), min(xs) + 1)
    ticks = nice_ticks(min(finite, default=0.0), max(finite, default=1.0))
    y0, y1 = ticks[0], ticks[-1]

    def across(x: float) -> float:
        return _LEFT + (x - x0) / (x1 - x0) * (WIDTH - _LEFT - _RIGHT)

    def down(y: float) -> float:
        return HEIGHT - _BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - _TOP - _BOTTOM)

    names = list(dict.fromkeys(name for name, _, _ in found))
    lines = []
    for name, run, (steps, values) in found:
        points = thinned(steps, values)
        place = [(across(x), down(y)) for x, y in points]
        label = name if len(runs) == 1 else f"{run}: {name}"
        lines.append(
            Line(
                label,
                names.index(name) % COLOURS,
                runs.index(run),
                _dot(*place[0]) if len(place) == 1 else _path(place),
                ",".join(f"{x:g}" for x, _ in points),
                ",".join(f"{y:.5g}" for _, y in points),
                f"{points[-1][1]:.4g}" if points else "",
            )
        )
    steps_shown = [x for x in nice_ticks(x0, x1) if x0 <= x <= x1 and x == int(x)]
    metric = find(names[0]) if len(names) == 1 else None
    meaning = "" if metric is None else "; ".join(p for p in (metric.meaning, metric.healthy) if p)
    return Chart(
        title,
        meaning,
        tuple(lines),
        tuple((across(x), f"{x:.0f}") for x in steps_shown),
        tuple((down(y), f"{y:.6g}") for y in ticks),
    )


def _path(place: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in place) if place else ""


def _dot(x: float, y: float) -> str:
    """A small ring, as a line of one point would not be seen."""
    half = f"a{_DOT:g} {_DOT:g} 0 1 0"
    return f"M{x - _DOT:.1f} {y:.1f} {half} {2 * _DOT:g} 0 {half} {-2 * _DOT:g} 0"


def thinned(steps: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    """At most `_MOST` points in order of steps: the extremes of each part of a longer line."""
    points = [(x, y) for x, y in zip(steps, values, strict=True) if math.isfinite(y)]
    points.sort(key=lambda point: point[0])
    if len(points) <= _MOST:
        return points
    size = math.ceil(len(points) / (_MOST // 2 - 1))
    kept = []
    for start in range(0, len(points) - 1, size):
        part = points[start : start + size]
        ends = {part.index(min(part, key=_height)), part.index(max(part, key=_height))}
        kept += [part[place] for place in sorted(ends)]
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _height(point: tuple[float, float]) -> float:
    return point[1]


def nice_ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers, the first at or below `low`, the last at or above `high`."""
    if high <= low:
        pad = abs(low) * 0.1
        # What is 0 all along is a count or a share, which cannot be less.
        low, high = (low - pad, high + pad) if pad else (0.0, 1.0)
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]
