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
def test_a_student_follows_its_teacher(use, teacher, tiny_pages, tiny_model, ray_job, tmp_path):
    settings = {"path": str(teacher), "use": use, "alone": True}
    with ray_job(cpus=RUN_CPUS) as head:
        run(
            "olmrl.grpo",
            *grpo_overrides(tiny_pages, tiny_model, tmp_path / "run"),
            *GRPO,
            f"algorithm.teacher={json.dumps(settings)}",
            "run.steps=8",
            "algorithm.drop_zero_variance=true",
            "checkpoint.every=0",
            head=head,
        )
    rows = [row for row in read_rows(tmp_path / "run") if "teacher/kl" in row]
    assert [row["step"] for row in rows] == list(range(1, 9))
    kl = [row["teacher/kl"] for row in rows]
    assert sum(kl[-3:]) < 0.95 * sum(kl[:3])
