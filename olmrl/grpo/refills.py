"""Groups that were dropped while a batch is filled: what became of them, in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping

from olmrl.metrics import Last, Measurements

_WORDS = {
    "zero_variance": "zero variance (a page's completions all had the same reward)",
    "generation_failed": "generation failed (dropped_groups.jsonl says why)",
    "scoring_failed": "scoring failed (dropped_groups.jsonl says why)",
    "stale": "stale (older than algorithm.max_staleness admits)",
}
_NOT_GROUPS = {"bad_page"}
"""Reasons of the ledger that concern a page which never became a group."""


def dropped_since(counts: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """Dropped groups by reason.

    Args:
        counts: the ledger's counts.
        before: the same at an earlier time.
    """
    found = {}
    for name, count in counts.items():
        kind, _, reason = name.partition("/")
        if kind == "dropped" and reason not in _NOT_GROUPS and count > before.get(name, 0):
            found[reason] = count - before.get(name, 0)
    return found


def fractions(dropped: Mapping[str, int]) -> str:
    """`75 % zero variance (...), 25 % stale (...)`, most frequent first."""
    total = sum(dropped.values())
    ordered = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{100 * n / total:.3g} % {_WORDS.get(name, name)}" for name, n in ordered)


def no_signal(dropped: Mapping[str, int], *, step: int, ready: int, needed: int) -> str:
    """Why a run ends whose next batch cannot be filled.

    Args:
        dropped: groups dropped since the last batch, by reason.
        step: steps made.
        ready: groups of the next batch that are ready.
        needed: groups of a batch.
    """
    return (
        f"algorithm.max_refills: after step {step}, {sum(dropped.values())} prompt groups were "
        f"dropped, and the next batch still has {ready} of {needed}: {fractions(dropped)}; the "
        "weights are saved. rollouts/ shows what was sampled: if all completions of a page are "
        "equally good or bad, other pages, rewards or a higher rollout.sampling.temperature help"
    )


def no_step(dropped: Mapping[str, int]) -> str:
    """Why a run fails that used up its pages without a step."""
    total = sum(dropped.values())
    why = f"all {total} prompt groups were dropped: {fractions(dropped)}"
    return (
        f"the pages are used up without a single step: {why if total else 'no page was usable'}; "
        "the model is unchanged, so nothing is exported"
    )


def refill_row(dropped: Mapping[str, int], ready: int, measured: Measurements) -> Measurements:
    """A row of metrics while a batch is filled.

    Args:
        dropped: groups dropped since the last batch, by reason.
        ready: groups that are ready.
        measured: of all groups scored since the last batch.
    """
    row: Measurements = {
        "refill/dropped": Last(float(sum(dropped.values()))),
        "refill/ready": Last(float(ready)),
    }
    row |= {f"refill/{reason}": Last(float(count)) for reason, count in dropped.items()}
    shown = ("reward/mean", "reward/std", "completion/mean_length")
    return row | {f"refill/{name}": measured[name] for name in shown if name in measured}
