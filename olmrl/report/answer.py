"""The answer that a report opens with: what improved, by how much, within what error.

Pure functions on the evaluations of a run (`evaluations/`) and the columns of its metrics. Held-out
pages are the sample. The error of a change is the standard error of the paired difference, page by
page; a change counts as one when it is larger than twice its error (about 95 %).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Scores = Mapping[str, float]
Columns = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""By metric: steps and values."""

_HEADLINES = ("reported/pass_rate", "greedy/pass_rate", "sampled/pass_rate", "pass_rate",
              "greedy/reading", "sampled/reading", "edit_similarity")  # fmt: skip
"""The figure that a run is judged by: the first of these that was measured."""
_WORDS = {
    "reported/pass_rate": "pass rate of unit tests on held-out pages that did not choose the "
    "checkpoint",
    "greedy/pass_rate": "pass rate of unit tests on held-out pages, read greedily",
    "sampled/pass_rate": "pass rate of unit tests on held-out pages, sampled",
    "pass_rate": "pass rate of unit tests on evaluation pages",
    "greedy/reading": "similarity of words on held-out pages, read greedily",
    "sampled/reading": "similarity of words on held-out pages, sampled",
    "edit_similarity": "similarity to the truth on evaluation pages",
    "eval/loss": "held-out loss",
}
_NEUTRAL = ("tokens", "failed", "unscored_pages")
_SAME = 1e-3
"""Largest gap between a figure and what its pages add up to; they are rounded, and a category of
pages that were read several times is not a plain share."""


@dataclass(frozen=True, slots=True)
class Change:
    """A held-out figure before and after."""

    name: str
    before: float
    after: float
    error: float | None = None
    """Standard error of the difference; None: cannot be known."""
    paired: bool = True
    """Whether it is that of the difference page by page."""
    falls: bool = False
    """Whether less of it is better."""

    @property
    def difference(self) -> float:
        """After less before."""
        return self.after - self.before

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `within error`, or nothing where the error is unknown."""
        if self.error is None or self.name.endswith(_NEUTRAL):
            return ""
        if abs(self.difference) <= 2 * self.error:
            return "within error"
        return "better" if (self.difference > 0) != self.falls else "worse"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run came to."""

    headline: str
    notes: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    first_step: int | None = None
    last_step: int | None = None

    @property
    def main(self) -> list[Change]:
        """The changes that a run is judged by."""
        return [change for change in self.changes if change.name in _WORDS]

    @property
    def others(self) -> list[Change]:
        """The other changes."""
        return [change for change in self.changes if change.name not in _WORDS]


def answer(evaluations: Sequence[Mapping[str, Any]], columns: Columns) -> Answer:
    """What improved.

    Args:
        evaluations: as in `evaluations/`, by step; none is fine.
        columns: of metrics.jsonl; a run without pages to read has a held-out loss at most.
    """
    if not evaluations:
        return _by_loss(columns)
    first, last = evaluations[0], evaluations[-1]
    name = next((n for n in _HEADLINES if n in last["scores"]), None)
    if len(evaluations) == 1 or name is None or name not in first["scores"]:
        return Answer(_single(last, name), last_step=last["step"])
    changes = all_changes(first, last)
    main = next(change for change in changes if change.name == name)
    notes = [_how(main, last), *_falls(changes), *_best(evaluations)]
    return Answer(
        _sentence(main, last["step"] - first["step"]),
        tuple(note for note in notes if note),
        tuple(changes),
        first["step"],
        last["step"],
    )


def all_changes(first: Mapping[str, Any], last: Mapping[str, Any]) -> list[Change]:
    """Every figure of both evaluations; those of test types are left out where files say the same.

    Args:
        first: an evaluation.
        last: a later one.
    """
    before, after = first["scores"], last["scores"]
    by_file = any("category/" in name for name in after)
    names = [
        name
        for name in after
        if name in before and not name.endswith("_error") and not (by_file and "type/" in name)
    ]
    return [
        Change(name, before[name], after[name], *_error(name, first, last), _falling(name))
        for name in sorted(names, key=_prominence)
    ]


def paired_error(
    sums: tuple[Sequence[float], Sequence[float]], counts: tuple[Sequence[int], Sequence[int]]
) -> float | None:
    """Standard error of the change of a share, the same pages being read before and after.

    With p of t on each of n pages, before and after, and r = sum p / sum t, each page moves the
    difference by u = (p' - r' t') / sum t' - (p - r t) / sum t; the error is sqrt(n / (n - 1) x
    sum u^2) (ratio estimator, Cochran 1977, 6.3, for the difference).

    Args:
        sums: p by page, before and after.
        counts: t by page, before and after.

    Returns:
        None for fewer than two pages.
    """
    totals = [sum(part) for part in counts]
    if not all(totals):
        return None
    rates = [sum(p) / total for p, total in zip(sums, totals, strict=True)]
    moved = []
    for before, after, had, has in zip(*sums, *counts, strict=True):
        if had or has:
            late = (after - rates[1] * has) / totals[1]
            moved.append(late - (before - rates[0] * had) / totals[0])
    if len(moved) < 2:
        return None
    return math.sqrt(len(moved) / (len(moved) - 1) * math.fsum(u * u for u in moved))


def _error(
    name: str, first: Mapping[str, Any], last: Mapping[str, Any]
) -> tuple[float | None, bool]:
    """Standard error of a figure's change, and whether it is paired."""
    before: Mapping[str, Any] = first.get("by_page", {})
    after: Mapping[str, Any] = last.get("by_page", {})
    paired = before.get("pages") == after.get("pages")
    if paired and _adds_up(name, first) and _adds_up(name, last):
        sums, counts = ((before[part][name], after[part][name]) for part in ("sums", "counts"))
        return paired_error(sums, counts), True
    errors = [one["scores"].get(f"{name}_error") for one in (first, last)]
    return (None if None in errors else math.hypot(*errors)), False


def _adds_up(name: str, evaluation: Mapping[str, Any]) -> bool:
    """Whether the figures of the pages give the figure of all."""
    pages = evaluation.get("by_page", {"counts": {}})
    total = sum(pages["counts"].get(name, ()))
    told = evaluation["scores"][name]
    return bool(total and abs(sum(pages["sums"][name]) / total - told) < _SAME)


def _falling(name: str) -> bool:
    return name.endswith("loss")


def _prominence(name: str) -> tuple[bool, int, bool, str]:
    """Pass rates first, parts of a figure after whole ones, what has no direction last."""
    place = _HEADLINES.index(name) if name in _HEADLINES else len(_HEADLINES)
    return name.endswith(_NEUTRAL), place, name.count("/") > 1, name


def plain(name: str) -> str:
    """A figure's name without what it is called in files."""
    return name.removesuffix(".jsonl").replace("category/", "").replace("_", " ")


def signed(change: Change) -> str:
    """`+0.280 +- 0.071`, twice the error; the difference alone where the error is unknown."""
    text = f"{change.difference:+.3f}"
    return text if change.error is None else f"{text} ± {2 * change.error:.3f}"


def _sentence(change: Change, steps: int) -> str:
    what = _WORDS[change.name]
    moved = f"{change.before:.3f} to {change.after:.3f} ({signed(change)}) over {steps} steps"
    way = "rose" if change.difference > 0 else "fell"
    if change.verdict == "within error":
        return f"No clear change: the {what} went from {moved}."
    if change.verdict == "" and change.error is None:
        return f"The {what} {way} from {moved}; its error is unknown."
    return f"The {what} {way} from {moved}."


def _how(change: Change, last: Mapping[str, Any]) -> str:
    if change.error is None:
        return ""
    pages = last.get("by_page")
    count = sum(1 for n in pages["counts"].get(change.name, ()) if n) if pages else 0
    sample = f"{count} pages" if count else "pages"
    if change.paired:
        return (
            f"± is twice the standard error of the difference, page by page, of {sample}: about "
            "95 % if the run were judged on other pages of the same kind. It says nothing of "
            "another seed."
        )
    return (
        "± is twice the standard error, as if both evaluations had read different pages (the run "
        "did not record figures of pages): wider than it need be."
    )


def _falls(changes: Sequence[Change]) -> list[str]:
    """Which figures became worse, and whether by more than their error."""
    worse = [c for c in changes if c.verdict == "worse"]
    unsure = [
        c
        for c in changes
        if c.verdict != "worse"
        and not c.name.endswith(_NEUTRAL)
        and (c.difference if c.falls else -c.difference) > 1e-9
    ]
    notes = []
    if worse:
        told = ", ".join(f"{plain(c.name)} {signed(c)}" for c in worse)
        notes.append(f"Worse, beyond their error: {told}.")
    if unsure:
        told = ", ".join(f"{plain(c.name)} {signed(c)}" for c in unsure)
        notes.append(f"Lower, within their error or of unknown error: {told}.")
    return notes or ["No figure became worse."]


def _best(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which step the choosing pages prefer, if it is not the last."""
    name, reported = "selection/pass_rate", "reported/pass_rate"
    known = [one for one in evaluations if one["step"] > 0 and name in one["scores"]]
    if not known:
        return []
    best = max(known, key=lambda one: one["scores"][name])
    if best["step"] == evaluations[-1]["step"] or reported not in best["scores"]:
        return []
    return [
        f"The best checkpoint is that of step {best['step']}, by the pages that choose; the others "
        f"give it {best['scores'][reported]:.3f}."
    ]


def _single(last: Mapping[str, Any], name: str | None) -> str:
    if name is None:
        return f"The evaluation at step {last['step']} has no figure to judge the run by."
    value, error = last["scores"][name], last["scores"].get(f"{name}_error")
    within = "" if error is None else f" ± {2 * error:.3f} (twice the standard error)"
    return (
        f"The {_WORDS[name]} is {value:.3f}{within} at step {last['step']}. There is no earlier "
        "evaluation to compare it with."
    )


def _by_loss(columns: Columns) -> Answer:
    """The answer of a run that reads no pages."""
    steps, losses = columns.get("eval/loss", ((), ()))
    if len(losses) > 1:
        change = Change("eval/loss", losses[0], losses[-1], falls=True)
        way = "fell" if change.difference < 0 else "rose"
        note = (
            "A mean over sets is all that the run records of it, so its error is unknown; "
            "evaluation.generate has pages read and scored."
        )
        best = min(range(len(losses)), key=losses.__getitem__)
        lowest = f"It was lowest at step {steps[best]:.0f}: {losses[best]:.3f}."
        headline = (
            f"The held-out loss {way} from {change.before:.3f} to {change.after:.3f} "
            f"({change.difference:+.3f}) over {steps[-1] - steps[0]:.0f} steps."
        )
        notes = (note,) if best == len(losses) - 1 else (lowest, note)
        return Answer(headline, notes, (change,), int(steps[0]), int(steps[-1]))
    told = _by_training(columns)
    return Answer(
        "No held-out page has been read twice yet: nothing here says whether reading improved.",
        (*told, "data.heldout (GRPO) or evaluation.generate (SFT) name pages to be judged by."),
    )


def _by_training(columns: Columns) -> list[str]:
    for name, what in (("reward/mean", "mean reward in training"), ("loss/sft", "training loss")):
        _, values = columns.get(name, ((), ()))
        tenth = len(values) // 10
        if tenth:
            early, late = (sum(part) / tenth for part in (values[:tenth], values[-tenth:]))
            return [
                f"The {what} went from {early:.3f} to {late:.3f} (first and last tenth of the "
                "steps, each on other pages)."
            ]
    return []
