"""What `python -m olmrl.sft --dry-run` refuses before anything starts."""

from __future__ import annotations

import pytest

from olmrl.config import SftConfig, load
from olmrl.sft.forecast import describe_data, total_steps

STEPS = [
    "{name: FrontMatterParser}",
    "{name: PDFRenderer}",
    "{name: Prompt}",
    "{name: FrontMatterOutputFormat}",
    "{name: InstructUserMessages}",
    "{name: Tokenizer}",
]


def describe(*overrides: str, steps: list[str] = STEPS) -> str:
    pipeline = f"data.pipeline=[{', '.join(steps)}]"
    shared = ["model.path=m", "data.train=[{root: books}]", pipeline]
    return describe_data(load(SftConfig, None, [*shared, *overrides]))


def test_a_dry_run_refuses_a_pipeline_that_cannot_work():
    assert "books" in describe()
    with pytest.raises(ValueError, match=r"set books, data\.pipeline, Tokenizer: .*the order"):
        describe(steps=[step for step in STEPS if "Instruct" not in step])
    with pytest.raises(ValueError, match=r"prompt file nowhere\.txt: cannot read it"):
        describe(steps=[*STEPS[:2], "{name: Prompt, prompt: 'file:nowhere.txt'}", *STEPS[3:]])


def test_a_dry_run_refuses_a_bench_without_a_pipeline_to_ask_with():
    own = f"data.train=[{{root: books, pipeline: [{', '.join(STEPS)}]}}]"
    bench = "evaluation.generate={bench: some/bench}"
    assert "books" in describe(own, steps=[])
    with pytest.raises(ValueError, match=r"generate\.bench, data\.pipeline: no step sets the imag"):
        describe(own, bench, steps=[])


def test_the_schedule_counts_the_pages_that_the_rules_keep():
    shared = ["model.path=m", "data.train=[{root: books}]", "training.pages_per_step=4"]
    kept = [True] * 80 + [False] * 20

    def steps(*overrides: str) -> int:
        return total_steps(load(SftConfig, None, [*shared, *overrides]), kept)

    assert (steps(), steps("run.epochs=3"), steps("run.steps=7")) == (20, 60, 7)
    assert 5 < steps("run.epochs=0.5") < 13
