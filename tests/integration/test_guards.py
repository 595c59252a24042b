"""A guard that fails ends the run at once, whatever restarts are left; equal runs are equal."""

import json
import subprocess

import pytest
from running import GRPO, ROOT, command, grpo_overrides, run

from olmrl.checkpoint.folder import CheckpointFolder


@pytest.mark.slow
def test_a_gap_between_engine_and_learner_ends_the_run_with_its_figures(
    tiny_pages, tiny_model, tmp_path
):
    out = tmp_path / "run"
    overrides = [
        *grpo_overrides(tiny_pages, tiny_model, out),
        *GRPO,
        "run.steps=4",
        "evaluation.skip_start=true",
        "guards.max_mean_gap=1e-12",
        "learner.max_restarts=3",
    ]
    done = subprocess.run(
        command("olmrl.grpo", *overrides), capture_output=True, text=True, timeout=600, cwd=ROOT
    )
    assert done.returncode == 1
    assert "engine and learner log-probs differ by" in done.stderr
    assert "(allowed 1e-12)" in done.stderr and "Traceback" not in done.stderr
    log = [json.loads(line) for line in (out / "logs" / "learner-0.jsonl").read_text().splitlines()]
    assert [row["event"] for row in log].count("begins") == 1, "it was not tried again"
    assert CheckpointFolder(out / "checkpoints").newest() is None


@pytest.mark.slow
def test_synchronous_runs_on_the_hf_engine_give_the_same_bits(tiny_pages, tiny_model, tmp_path):
    weights = []
    for name in ("one", "two"):
        out = tmp_path / name
        run(
            "olmrl.grpo",
            *grpo_overrides(tiny_pages, tiny_model, out),
            *GRPO,
            "run.steps=4",
            "algorithm.minibatches=2",
            "algorithm.epochs_per_batch=2",
            "evaluation.skip_start=true",
        )
        weights.append((out / "model" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != (tiny_model / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("length", "sentence"),
    [
        (["run.steps=4", "algorithm.max_refills=5"], "algorithm.max_refills: after step 0"),
        (["run.epochs=1", "data.max_pages=4"], "without a single step: all 4 prompt groups"),
    ],
)
def test_a_run_without_a_signal_ends_and_says_why(
    length, sentence, tiny_pages, tiny_model, tmp_path, monkeypatch
):
    (tmp_path / "same_for_all.py").write_text(
        "def reward(page, completions):\n    return [0.5 for _ in completions]\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    out = tmp_path / "run"
    overrides = [
        *grpo_overrides(tiny_pages, tiny_model, out),
        *(
            word
            for word in GRPO
            if not word.startswith(("rewards", "algorithm.drop", "run.epochs"))
        ),
        *length,
        "rewards=[{name: 'same_for_all:reward'}]",
        "evaluation.skip_start=true",
        "checkpoint.every=0",
    ]
    done = subprocess.run(
        command("olmrl.grpo", *overrides), capture_output=True, text=True, timeout=600, cwd=ROOT
    )
    assert done.returncode == 1 and sentence in done.stderr, done.stdout + done.stderr
    assert "100 % zero variance" in done.stderr and "Traceback" not in done.stderr
    assert not (out / "model").exists(), "an unchanged model is no result"
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["refill/dropped"] for row in rows][:2] == [2.0, 4.0]
