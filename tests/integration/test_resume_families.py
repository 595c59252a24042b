"""Whole GRPO runs of the newer families: continued from a checkpoint, they end in equal weights."""

import shutil

import pytest
from running import RUN_CPUS, grpo_overrides, run
from safetensors.torch import load_file

from olmrl.metrics import read_rows
from olmrl.synth.model import gather_texts, make_model

STEPS, CUT = 3, 1
SHORT = [
    "rollout.engine=hf",
    "rollout.group_size=4",
    "rollout.sampling={temperature: 1.0, max_tokens: 12}",
    "rewards=[{name: edit_distance, options: {compat: true}}]",
    "data.max_pages=6",
    f"run.steps={STEPS}",
    "algorithm.pages_per_step=2",
    "algorithm.drop_zero_variance=false",
    "learner.optimizer.lr=1e-3",
    "checkpoint={every: 1, keep_last: 3}",
    "evaluation={skip_start: true, max_pages: 1, sampled: false}",
]
COMPARED = ("loss/policy", "reward/mean", "policy/grad_norm", "mismatch/logprob_mean_abs")


def steps_of(out):
    rows = [row for row in read_rows(out / "metrics.jsonl") if "loss/policy" in row]
    return {row["step"]: [row[name] for name in COMPARED] for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3_vl", "qwen3_5"])
def test_a_continued_run_is_the_unbroken_one(family, tiny_pages, tmp_path, ray_head, ray_job):
    texts = gather_texts([tiny_pages / "sft"])
    model = make_model(texts, tmp_path / family, vocab_size=512, family=family)
    whole, out = tmp_path / "whole", tmp_path / "cut"
    with ray_job(cpus=RUN_CPUS):
        said = run("olmrl.grpo", *grpo_overrides(tiny_pages, model, whole), *SHORT, head=ray_head)
        shutil.copytree(whole, out)
        for step in range(CUT + 1, STEPS + 1):  # as a kill before the next step leaves it
            shutil.rmtree(out / "checkpoints" / f"step-{step}")
        shutil.rmtree(out / "model")
        overrides = grpo_overrides(tiny_pages, model, out)
        run("olmrl.grpo", *overrides, *SHORT, head=ray_head, flags=["--resume", "auto"])
    assert "learner: attention: sdpa" in said
    assert ("learner: recurrence: torch" in said) == (family == "qwen3_5")
    assert steps_of(out) == steps_of(whole)
    assert max(row[-1] for row in steps_of(whole).values()) < 1e-4
    expected = load_file(whole / "model" / "model.safetensors")
    found = load_file(out / "model" / "model.safetensors")
    start = load_file(model / "model.safetensors")
    assert found.keys() == expected.keys() == start.keys()
    assert all(found[name].equal(tensor) for name, tensor in expected.items())
    assert any(not found[name].equal(tensor) for name, tensor in start.items())
