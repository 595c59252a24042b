"""Held-out evaluation inside whole GRPO runs."""

import pytest
from running import GRPO, Running, grpo_overrides

from olmrl.run_directory import RunDirectory

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
