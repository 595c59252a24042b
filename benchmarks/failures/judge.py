"""What must hold of a run directory after all failures: pure functions of what is on disk."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .running import is_evaluation, is_step
from .tiny import EVALUATE_EVERY


def strict_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a file; half a row raises."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def wrong_pages(
    steps: Sequence[dict[str, Any]], pages: int, epochs: int, dropped: int
) -> list[str]:
    """Groups trained twice, and pages of an epoch that were neither trained nor dropped.

    Args:
        steps: rows of steps.jsonl.
        pages: of an epoch.
        epochs: of the run.
        dropped: groups that the newest checkpoint's ledger knows as dropped.
    """
    places = Counter((epoch, index) for row in steps for epoch, index, _ in row["pages"])
    twice = sorted(place for place, count in places.items() if count > 1)
    found = [f"trained twice: {twice}"] if twice else []
    outside = sorted(set(places) - {(e, i) for e in range(epochs) for i in range(pages)})
    if outside:
        found.append(f"no such place: {outside}")
    if len(places) + dropped != pages * epochs:
        found.append(f"{len(places)} trained + {dropped} dropped of {pages * epochs} groups")
    return found


def wrong_rows(
    steps: Sequence[dict[str, Any]], metrics: Sequence[dict[str, Any]], evaluate_every: int
) -> list[str]:
    """Rows of metrics and steps that are missing, or there twice."""
    made = [row["step"] for row in steps]
    last = len(made)
    found = []
    if made != list(range(1, last + 1)):
        found.append(f"steps.jsonl has the steps {made}")
    if not all(a["step"] <= b["step"] for a, b in itertools.pairwise(metrics)):
        found.append("metrics.jsonl is out of order")
    rows = [row["step"] for row in metrics if is_step(row)]
    if rows != list(range(1, last + 1)):
        found.append(f"metrics.jsonl has rows of the steps {rows}, of 1 to {last}")
    evaluated = [row["step"] for row in metrics if is_evaluation(row)]
    due = sorted({*range(evaluate_every, last, evaluate_every), last})
    if sorted(set(evaluated) - {0}) != due or len(set(evaluated)) != len(evaluated):
        found.append(f"evaluated at {evaluated}, due at {due}")
    return found


def wrong_wandb(out: Path, first_id: str | None) -> list[str]:
    """Another W&B id than at the first start."""
    now = (out / "wandb_id").read_text("utf-8")
    folders = sorted(path.name for path in (out / "wandb").glob("offline-run-*"))
    strangers = [name for name in folders if not name.endswith(f"-{now}")]
    found = [f"W&B id was {first_id} and is {now}"] if first_id not in (None, now) else []
    return [*found, *(f"a W&B run of another id: {name}" for name in strangers)]


def digest(model: Path) -> str:
    """Of all weights that a run exported."""
    total = hashlib.sha256()
    for file in sorted(model.glob("*.safetensors")):
        total.update(file.read_bytes())
    return total.hexdigest()[:16]


def difference(model: Path, expected: Path) -> float:
    """Largest difference between two exported models' weights."""
    # Deferred: it is asked for only when digests differ.
    from safetensors.torch import load_file

    one, other = (load_file(folder / "model.safetensors") for folder in (model, expected))
    return max(float((one[name] - other[name]).abs().max()) for name in other)


def dropped_groups(out: Path) -> int:
    """Groups dropped in all, by the newest checkpoint's ledger (GRPO)."""
    newest = max(out.glob("checkpoints/step-*"), key=lambda path: int(path.name[5:]))
    counts = json.loads((newest / "extra.json").read_text("utf-8"))["ledger"]["counts"]
    return sum(count for name, count in counts.items() if name.startswith("dropped/"))


def judge(out: Path, *, trainer: str, pages: int, epochs: int, wandb_id: str | None) -> list[str]:
    """Everything that is wrong with a run that has ended, besides its weights."""
    steps, metrics = strict_rows(out / "steps.jsonl"), strict_rows(out / "metrics.jsonl")
    dropped = dropped_groups(out) if trainer == "grpo" else 0
    found = wrong_pages(steps, pages, epochs, dropped)
    found += wrong_rows(steps, metrics, EVALUATE_EVERY)
    found += wrong_wandb(out, wandb_id)
    leftovers = [p.name for p in (out / "checkpoints").iterdir() if p.name.startswith(".")]
    if leftovers:
        found.append(f"left in checkpoints/: {leftovers}")
    if (out / "run.lock").exists():
        found.append("the lock is still there")
    for name in ("report.html", "model/config.json"):
        if not (out / name).exists():
            found.append(f"{name} is missing")
    return found
