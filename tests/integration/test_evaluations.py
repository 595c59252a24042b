"""Held-out evaluation inside whole GRPO runs."""

import pytest
from running import GRPO, Running, grpo_overrides, run

from olmrl.checkpoint.folder import CheckpointFolder
from olmrl.metrics import read_rows
from olmrl.run.directory import RunDirectory

STEPS = 6
SETTINGS = [
    *GRPO,
    "run.epochs=1",
    "evaluation={every: 2, max_pages: 2, sampled: false}",
    "checkpoint.every=0",
]


@pytest.mark.slow
def test_a_learner_that_goes_back_behind_an_evaluation_goes_on(tiny_pages, tiny_model, tmp_path):
    out = tmp_path / "run"
    overrides = [*grpo_overrides(tiny_pages, tiny_model, out), *SETTINGS, "checkpoint.keep_best=0"]
    running = Running("olmrl.grpo", overrides)
    running.wait_for_step(3)
    running.kill("learner")
    running.finish(timeout_s=300)
    directory = RunDirectory(out)
    assert [row["step"] for row in directory.evaluations()] == [0, 2, 4, STEPS]
    # of every step, the repeated ones too
    recorded = [int(file.name[5:11]) for file in directory.rollout_files()]
    assert recorded == list(range(STEPS))


@pytest.mark.slow
def test_the_best_weights_are_kept_though_no_checkpoint_was_due(tiny_pages, tiny_model, tmp_path):
    out = tmp_path / "run"
    run("olmrl.grpo", *grpo_overrides(tiny_pages, tiny_model, out), *SETTINGS)
    evaluations = RunDirectory(out).evaluations()
    scores = {row["step"]: row["scores"]["greedy/pass_rate"] for row in evaluations if row["step"]}
    assert sorted(scores) == [2, 4, STEPS]
    best = [step for step in scores if scores[step] >= max(scores[s] for s in scores if s <= step)]
    events = read_rows(out / "logs" / "learner-0.jsonl")
    saved = [int(r["version"].split(".")[1]) for r in events if r["event"] == "checkpoint"]
    assert saved == sorted({*best, STEPS})
    rows = [row for row in read_rows(out / "metrics.jsonl") if "time/step" in row]
    waited = [row["step"] for row in rows if row.get("time/evaluation", 0.0) > 0.0]
    assert waited == [1, 3, 5]
    folder = CheckpointFolder(out / "checkpoints")
    assert folder.best().step == best[-1] and folder.newest().step == STEPS
