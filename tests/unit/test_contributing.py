"""The examples of CONTRIBUTING.md, used as a user would: by import path, from outside olmrl."""

from __future__ import annotations

import argparse
import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from data_pairs import HEAD

from olmrl.config import GrpoConfig, SftConfig, load
from olmrl.data.page import PageSource
from olmrl.data.steps import Dropped, StepContext, build_pipeline
from olmrl.learner.loss import LossInputs, StepCounts, grpo_loss
from olmrl.models.registry import FAMILIES
from olmrl.rewards import score
from olmrl.weight_sync.sender import make_sender
from olmrl.weight_sync.transport import load_transport, resolve_transport

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")
EXAMPLES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", TEXT, flags=re.S))
GRPO = ["model.path=m", "data.train=d"]
SFT = ["model.path=m", "data.train=[{root: d}]"]


@pytest.fixture(autouse=True)
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    for name, code in EXAMPLES.items():
        (folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(folder)


def settings(*starts: str) -> list[str]:
    """Overrides that the text shows."""
    lines = [line.strip() for line in TEXT.splitlines() if line.startswith("    ")]
    found = [line for line in lines if line.startswith(starts)]
    assert found
    return found


def test_every_example_is_known_to_this_test():
    assert set(EXAMPLES) == {
        *("my_reward", "my_loss", "my_step", "my_transport", "my_verb", "my_family"),
    }
    assert TEXT.count("```python") == len(EXAMPLES)


def test_the_reward():
    config = load(GrpoConfig, None, [*GRPO, *settings("rewards=")])
    own = config.rewards[1]
    assert score(own.name, ["a" * 6000, "a"], options=own.options) == [0.5, 1.0]


def test_the_loss():
    algorithm = load(GrpoConfig, None, [*GRPO, *settings("algorithm.")]).algorithm
    inputs = LossInputs(
        sequence_N=torch.tensor([0, 0, 1]),
        sequences=2,
        weight_N=torch.tensor([1.0, 1.0, 0.0]),
        advantage_N=torch.tensor([1.0, 1.0, -2.0]),
        behaviour_N=torch.tensor([-1.0, -1.0, -1.0]),
        old_N=torch.tensor([-1.0, -1.0, -1.0]),
        reference_N=None,
    )
    logprobs = torch.tensor([-1.0, -0.5, -1.0], requires_grad=True)
    loss_fn = grpo_loss(algorithm, StepCounts(2.0, 1.0), max_tokens=8, outlier_gap=1.0)
    loss = loss_fn(logprobs, torch.zeros(3), inputs).loss
    loss.backward()
    ratio = np.exp(0.5)
    gates = [2 / (1 + np.exp(-2 * (r - 1))) for r in (1.0, ratio)]
    assert loss.item() == pytest.approx(-sum(gates) / 2)
    # at ratio 1 the gradient is REINFORCE's: advantage times the token's share
    assert logprobs.grad[0].item() == pytest.approx(-0.5)
    assert logprobs.grad[2].item() == 0.0


def test_the_data_step(tmp_path: Path):
    config = load(SftConfig, None, [*SFT, *settings("data.pipeline=")])
    pipeline = build_pipeline(config.data.pipeline, "data.pipeline")
    results = []
    for name, text in (("short", "few words"), ("long", "words " * 20)):
        path = tmp_path / f"{name}.md"
        path.write_text(HEAD + text)
        source = PageSource(f"{name}.pdf::1", f"{name}.pdf", 1, str(path))
        results.append(pipeline.run(source, StepContext(np.random.default_rng(0))))
    assert isinstance(results[0], Dropped)
    assert (results[0].step, results[0].rule) == ("DropShortPages", "too short")
    assert results[1].truth.natural_text.strip() == ("words " * 20).strip()
    assert [type(s).__name__ for s in pipeline.for_evaluation().steps] == ["FrontMatterParser"]


def test_the_transport():
    config = load(GrpoConfig, None, [*GRPO, *settings("weight_sync.")]).weight_sync
    name = resolve_transport(config, engine="hf", use_gpu=False, colocate=False)
    assert name == "my_transport:HalfStore"
    assert load_transport(name).backend == "olmrl_store"
    sender = make_sender(
        config, None, 1, transport=name, dtype="float32", family=FAMILIES["qwen2_5_vl"]
    )
    assert not sender.serves_joiners


def test_the_mix_verb(tmp_path: Path):
    verb = importlib.import_module("my_verb")
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "a.md").write_text("three short words")
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    table = tmp_path / "words.tsv"
    assert verb.run(parser.parse_args([str(tmp_path / "pairs"), str(table)])) == 0
    assert table.read_text() == "a\t3\n"


def test_the_model_family():
    own = importlib.import_module("my_family").ArchiveVL()
    assert own.model_type not in FAMILIES
    assert own.part_of("model.visual.blocks.0.attn.qkv.weight") == "tower"
