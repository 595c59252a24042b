"""A run continues from its directory."""

import subprocess
import sys
from pathlib import Path

import pytest

from olmrl.metrics import read_rows

sys.path.insert(0, str(Path(__file__).parent))
from test_runs_cpu import ROOT, command, grpo_overrides, run

STEP = [
    "rollout.engine=hf",
    "rollout.group_size=4",
    "rollout.sampling={temperature: 1.0, max_tokens: 16}",
    "rewards=[{name: edit_distance}]",
    "algorithm.pages_per_step=2",
    "learner.optimizer.lr=1e-3",
    "checkpoint.every=2",
    "evaluation={skip_start: true, max_pages: 2}",
]


@pytest.mark.slow
def test_a_continued_run_equals_an_uninterrupted_one(tiny_pages, tiny_model, tmp_path):
    whole = tmp_path / "whole"
    run("olmrl.grpo", *grpo_overrides(tiny_pages, tiny_model, whole), *STEP, "run.steps=4")
    halves = tmp_path / "halves"
    overrides = [*grpo_overrides(tiny_pages, tiny_model, halves), *STEP]
    run("olmrl.grpo", *overrides, "run.steps=2")
    refused = subprocess.run(
        command("olmrl.grpo", *overrides, "run.steps=4", flags=["--resume", "auto"]),
        capture_output=True, text=True, timeout=300, cwd=ROOT,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "run.steps: 2 -> 4" in refused.stderr
    flags = ["--resume", "auto", "--allow-config-change"]
    run("olmrl.grpo", *overrides, "run.steps=4", flags=flags)
    for name in ("loss/policy", "reward/mean", "policy/grad_norm", "completion/mean_length"):
        expected, found = (
            [r[name] for r in read_rows(d / "metrics.jsonl") if name in r] for d in (whole, halves)
        )
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-7), name
