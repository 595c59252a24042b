"""A run's evaluations as rows of a card: from what to what, and how certain."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from olmrl import storage
from olmrl.checkpoint.manifest import CheckpointError, read_json

_NORMAL_95 = 1.96
_LABELS = {
    "pass_rate": "unit tests passed",
    "category_mean": "unit tests passed, mean over test files",
    "page_exact": "pages with every test passed",
    "reading": "similarity of the words",
    "edit_similarity": "similarity of the text",
    "ended": "answers that end by themselves",
}
"""Figures of an evaluation in the order in which they are shown, and what they are called."""
_MODES = {
    "reported": "pages that did not choose the checkpoint",
    "greedy": "greedy",
    "sampled": "sampled",
}


def score_rows(run_dir: str | os.PathLike[str], step: int) -> list[tuple[str, str, str, str]]:
    """(figure, at the start, at this step, 95 % interval) of what was evaluated up to a step."""
    found = _evaluations(run_dir, step)
    if not found:
        return []
    first, last = found[0]["scores"], found[-1]["scores"]
    return [
        (
            label,
            f"{first[name]:.3f}" if len(found) > 1 and name in first else "-",
            f"{last[name]:.3f}",
            interval(last[name], last.get(f"{name}_error")),
        )
        for name, label in _named(last)
    ]


def scored_note(run_dir: str | os.PathLike[str], step: int) -> str:
    """What the rows are of."""
    at = _evaluations(run_dir, step)[-1]["step"]
    late = "" if at == step else f" The run did not evaluate step {step}; they are of step {at}."
    return (
        "Measured by the run itself on its own held-out pages, with olmrl's judging of unit tests."
        f"{late} Intervals are 1.96 standard errors, the pages being the sample; without an entry "
        "none was recorded."
    )


def interval(value: float, error: float | None) -> str:
    """The 95 % interval of a share, by its standard error; "-" without one."""
    if error is None:
        return "-"
    low, high = (value + sign * _NORMAL_95 * error for sign in (-1, 1))
    return f"{max(0.0, low):.3f} to {min(1.0, high):.3f}"


def _named(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Names of the figures shown, and labels."""
    shown = []
    for figure, label in _LABELS.items():
        shown += [
            (f"{mode}/{figure}", f"{label} ({text})")
            for mode, text in _MODES.items()
            if f"{mode}/{figure}" in scores
        ]
        if not any(name.endswith(f"/{figure}") and name.split("/")[0] in _MODES for name in scores):
            shown += [(figure, label)] if figure in scores else []
    files = [name for name in scores if re.fullmatch(r"greedy/category/.+", name)]
    shown += [(name, f"unit tests of {name.split('/', 2)[2]} (greedy)") for name in sorted(files)]
    return shown


def _evaluations(run_dir: str | os.PathLike[str], step: int) -> Sequence[dict[str, Any]]:
    folder = storage.join(run_dir, "evaluations")
    if not storage.exists(folder):
        return []
    paths = [p for p in storage.list_files(folder, ".json") if re.search(r"/step-\d+\.json$", p)]
    found = [_evaluation(path) for path in sorted(paths)]
    return [one for one in found if one["step"] <= step]


def _evaluation(path: str) -> dict[str, Any]:
    """An evaluation of a run.

    Raises:
        CheckpointError: it is damaged.
    """
    one = read_json(path)
    if not isinstance(one.get("step"), int) or not isinstance(one.get("scores"), dict):
        raise CheckpointError(f"{path}: damaged (no step, or no scores)")
    return one
