"""GRPO with a teacher, from the command line to the report."""

import json

import pytest
from running import GRPO, RUN_CPUS, grpo_overrides, run

from olmrl.metrics import read_rows
from olmrl.synth.model import gather_texts, make_model


@pytest.fixture(scope="module")
def teacher(tiny_pages, tmp_path_factory):
    """A larger model with the tiny model's tokenizer."""
    texts = gather_texts([tiny_pages / "sft"])
    out = tmp_path_factory.mktemp("teacher") / "small"
    return make_model(texts, out, vocab_size=512, size="small", seed=1)


@pytest.mark.parametrize("use", ["reward", "loss"])
def test_a_student_follows_its_teacher(
    use, teacher, tiny_pages, tiny_model, ray_head, ray_job, tmp_path
):
    settings = {"path": str(teacher), "use": use, "alone": True}
    with ray_job(cpus=RUN_CPUS):
        run(
            "olmrl.grpo",
            *grpo_overrides(tiny_pages, tiny_model, tmp_path / "run"),
            *GRPO,
            f"algorithm.teacher={json.dumps(settings)}",
            "run.steps=14",
            "algorithm.pages_per_step=4",
            "learner.optimizer.lr=3e-3",
            "learner.optimizer.schedule=constant",
            "algorithm.drop_zero_variance=true",
            "checkpoint.every=0",
            head=ray_head,
        )
    rows = [row for row in read_rows(tmp_path / "run" / "metrics.jsonl") if "teacher/kl" in row]
    assert [row["step"] for row in rows] == list(range(1, 15))
    kl = [row["teacher/kl"] for row in rows]
    assert sum(kl[-3:]) < 0.9 * sum(kl[:3])
