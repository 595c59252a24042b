"""Recorded prompt groups: what they are sorted and filtered by, and how their tests came out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ORDERS = {
    "newest": "newest first",
    "worst": "fewest tests passed first",
    "advantage": "widest advantage first",
    "stale": "written by older weights",
    "failed": "a reward failed, or the group was dropped",
}
"""Ways to look at the groups, and what they mean."""
_KEPT = ("ready", "zero_variance")
"""Fates of groups that nothing went wrong with."""


@dataclass(frozen=True, slots=True)
class GroupFile:
    """What is known of a recorded group without its texts."""

    name: str
    """Of its file in `rollouts/`."""
    step: int
    fate: str
    page_id: str
    completions: int
    passed: float | None
    """Share of unit tests passed by its completions; None without tests."""
    reward: float | None
    """Mean total reward."""
    advantage: float
    """Largest distance of a completion's total reward from the group's mean."""
    staleness: int
    """Steps by which the oldest weights that wrote it lag behind the learner."""
    failures: int
    """Rewards that failed."""

    @property
    def failed(self) -> bool:
        """Whether something went wrong with it."""
        return self.failures > 0 or self.fate not in _KEPT


def summarize(group: Mapping[str, Any]) -> GroupFile:
    """A recorded group without its texts.

    Args:
        group: as in `rollouts/`, with the `name` of its file.

    Raises:
        KeyError: not a recorded group.
    """
    rollouts, _ = group["rollouts"], (group["image"], group["reference"])
    verdicts = [v["passed"] for row in rollouts for v in row["verdicts"]]
    totals = [row["total"] for row in rollouts if row["total"] is not None]
    mean = statistics.fmean(totals) if totals else math.nan
    return GroupFile(
        name=group["name"],
        step=int(group["step"]),
        fate=group["fate"],
        page_id=group["page_id"],
        completions=len(rollouts),
        passed=statistics.fmean(verdicts) if verdicts else None,
        reward=mean if totals else None,
        advantage=max((abs(total - mean) for total in totals), default=0.0),
        staleness=max((group["step"] - _step_of(row["version"]) for row in rollouts), default=0),
        failures=sum(len(row["errors"]) for row in rollouts),
    )


def chosen(groups: Sequence[GroupFile], order: str) -> list[GroupFile]:
    """The groups that an order of `ORDERS` shows, in it.

    Args:
        groups: newest first.
        order: a key of `ORDERS`.
    """
    if order == "worst":
        tested = [g for g in groups if g.passed is not None]
        return sorted(tested, key=lambda g: g.passed or 0.0)
    if order == "advantage":
        return sorted(groups, key=lambda g: -g.advantage)
    if order == "stale":
        return sorted((g for g in groups if g.staleness > 0), key=lambda g: -g.staleness)
    if order == "failed":
        return [g for g in groups if g.failed]
    return list(groups)


def selected(groups: Sequence[GroupFile], each: int) -> dict[str, list[str]]:
    """The first few of every order, for a report without a server: name -> orders."""
    found: dict[str, list[str]] = {}
    for order in ORDERS:
        for group in chosen(groups, order)[:each]:
            found.setdefault(group.name, []).append(order)
    return found


@dataclass(frozen=True, slots=True)
class JudgedTest:
    """A unit test and how every completion did."""

    type: str
    id: str
    passed: tuple[bool | None, ...]
    """By completion; None: not judged."""
    explanations: tuple[str, ...]

    @property
    def failures(self) -> int:
        """Completions that failed it."""
        return self.passed.count(False)


def judged_tests(rollouts: Sequence[Mapping[str, Any]]) -> list[JudgedTest]:
    """The tests of a group by completion, those that most fail first.

    Args:
        rollouts: as recorded, in the order in which they are shown.
    """
    verdicts = [{(v["file"], v["id"]): v for v in row["verdicts"]} for row in rollouts]
    keys = dict.fromkeys(key for each in verdicts for key in each)
    rows = []
    for key in keys:
        found = [each.get(key) for each in verdicts]
        kind = next(v["type"] for v in found if v)
        rows.append(
            JudgedTest(
                kind,
                key[1],
                tuple(v["passed"] if v else None for v in found),
                tuple(v["explanation"] if v else "" for v in found),
            )
        )
    return sorted(rows, key=lambda row: -row.failures)


def ranked(rollouts: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    """(Number in the group, completion), the best reward first, unscored ones last."""
    return sorted(
        enumerate(rollouts),
        key=lambda one: (one[1]["total"] is None, -(one[1]["total"] or 0.0)),
    )


def _step_of(version: str) -> int:
    """`incarnation.step` -> step."""
    return int(version.rpartition(".")[2])
