"""olmrl's losses and gradients against TRL's on the same tensors.

    python benchmarks/trl_losses.py --trl-python VENV/bin/python

Random log-probabilities (policy, old, reference), advantages and lengths go through
`olmrl.learner.loss` and, in TRL's own environment, through `GRPOTrainer._compute_loss`, both in
float64: every loss, with token- and sequence-level ratios, with and without KL. Writes
results/trl_losses.json and, with --golden, the small case for the unit tests.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from olmrl.config.schema import AlgorithmConfig, CorrectionConfig
from olmrl.learner.loss import LossInputs, StepCounts, grpo_loss

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "trl_losses.json"
SETTINGS = {"clip_low": 0.15, "clip_high": 0.3, "max_tokens": 64}
LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo")
VARIANTS = [
    {"loss": loss, "level": level, "kl_beta": beta}
    for loss, level, beta in itertools.product(LOSSES, ("token", "sequence"), (0.0, 0.05))
]


def make_case(sequences: int, longest: int, masked: int, seed: int, digits: int = 12) -> dict:
    """Random columns; the last `masked` sequences have weight 0, like masked overlong ones."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, sequences)

    def rows(spread: float, base: list[list[float]] | None = None) -> list[list[float]]:
        drawn = [rng.normal(size=n) * spread for n in lengths]
        start = [-rng.gamma(2.0, size=n) for n in lengths] if base is None else map(np.array, base)
        return [(a + b).round(digits).tolist() for a, b in zip(start, drawn, strict=True)]

    new = rows(0.0)
    return {
        "new": new,
        "old": rows(0.4, new),
        "reference": rows(0.5, new),
        "advantage": rng.normal(size=sequences).round(digits).tolist(),
        "kept": [1.0] * (sequences - masked) + [0.0] * masked,
    }


def ours(case: dict, variant: dict, sequences: float) -> dict[str, Any]:
    """Loss and gradient per token as `trl_losses_trl.answer` gives them.

    Args:
        sequences: the step's sequence count; olmrl's learner counts those not masked.
    """
    lengths = [len(row) for row in case["new"]]

    def flat(name: str) -> torch.Tensor:
        return torch.tensor([x for row in case[name] for x in row], dtype=torch.float64)

    def spread(name: str) -> torch.Tensor:
        values = torch.tensor(case[name], dtype=torch.float64)
        return values.repeat_interleave(torch.tensor(lengths))

    new, weight = flat("new").requires_grad_(), spread("kept")
    config = AlgorithmConfig(
        loss=variant["loss"],
        importance_level=variant["level"],
        kl_beta=variant["kl_beta"],
        clip_low=SETTINGS["clip_low"],
        clip_high=SETTINGS["clip_high"],
        correction=CorrectionConfig(level="none"),
    )
    inputs = LossInputs(
        sequence_N=torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)),
        sequences=len(lengths),
        weight_N=weight,
        advantage_N=spread("advantage"),
        behaviour_N=flat("old"),
        old_N=flat("old"),
        reference_N=flat("reference"),
    )
    counts = StepCounts(float(weight.sum()), sequences)
    loss_fn = grpo_loss(config, counts, max_tokens=int(SETTINGS["max_tokens"]), outlier_gap=1.0)
    loss = loss_fn(new, torch.zeros_like(new), inputs).loss
    loss.backward()
    assert new.grad is not None
    return {"loss": loss.item(), "gradient": [g.tolist() for g in new.grad.split(lengths)]}


def difference(mine: dict, theirs: dict) -> tuple[float, float]:
    """Relative difference of the loss, and of the gradient's largest deviation."""
    a, b = (np.concatenate(x["gradient"]) for x in (mine, theirs))
    loss = abs(mine["loss"] - theirs["loss"]) / max(abs(theirs["loss"]), 1e-12)
    return loss, float(np.abs(a - b).max() / np.abs(b).max())


def ask_trl(python: str, cases: list[dict]) -> dict:
    with tempfile.TemporaryDirectory() as scratch:
        questions = Path(scratch) / "questions.json"
        questions.write_text(json.dumps({"cases": cases, "variants": VARIANTS}), "utf-8")
        command = [python, str(HERE / "trl_losses_trl.py"), str(questions)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def write_golden(path: Path, case: dict, answers: list[dict], version: str) -> None:
    """The small case, its variants and TRL's answers, for tests/unit/learner."""
    rows = [
        {**variant, "loss_value": answer["loss"], "gradient": answer["gradient"]}
        for variant, answer in zip(VARIANTS, answers, strict=True)
    ]
    golden = {"trl": version, **SETTINGS, "case": case, "variants": rows}
    path.write_text(json.dumps(golden) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trl-python", required=True, help="interpreter that has trl")
    parser.add_argument("--golden", type=Path, help="also write the unit tests' golden values here")
    arguments = parser.parse_args()
    masked, golden = make_case(28, 512, 5, seed=2), make_case(4, 6, 0, seed=3, digits=3)
    questions = {
        "28 sequences": (make_case(28, 512, 0, seed=1), 28.0),
        "28 sequences, 5 masked": (masked, 23.0),
        "the same, dividing by masked sequences too as TRL does": (masked, 28.0),
        "4 sequences (golden)": (golden, 4.0),
    }
    found = ask_trl(arguments.trl_python, [case for case, _ in questions.values()])
    figures: dict[str, Any] = {}
    asked = zip(questions.items(), found["answers"], strict=True)
    for (name, (case, sequences)), answers in asked:
        for variant, theirs in zip(VARIANTS, answers, strict=True):
            mine = ours(case, variant, sequences)
            loss, gradient = difference(mine, theirs)
            title = f"{variant['loss']}, {variant['level']}, beta {variant['kl_beta']}"
            figures.setdefault(name, {})[title] = {
                "olmrl": mine["loss"],
                "trl": theirs["loss"],
                "relative_difference": loss,
                "gradient_difference": gradient,
            }
    if arguments.golden:
        write_golden(arguments.golden, golden, found["answers"][-1], found["version"])
    result = {
        "figures": figures,
        "largest_relative_difference": {
            name: {
                "loss": max(row["relative_difference"] for row in rows.values()),
                "gradient": max(row["gradient_difference"] for row in rows.values()),
            }
            for name, rows in figures.items()
        },
        "hardware": f"{os.cpu_count()} CPU cores ({platform.machine()}), float64",
        "date": datetime.date.today().isoformat(),
        "versions": {"torch": torch.__version__, "trl": found["version"]},
        "command": "python " + " ".join(sys.argv),
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["largest_relative_difference"], indent=2))


if __name__ == "__main__":
    main()
