"""What `olmrl config schema` and `olmrl config explain` say of a configuration."""

import json
from pathlib import Path

import jsonschema
import pytest

from olmrl.__main__ import main
from olmrl.config.explain import SCHEMAS, explain, json_schema, keys, used_by
from olmrl.config.load import ConfigError, parse_yaml

CONFIGS = Path(__file__).parents[3] / "configs"
SHIPPED = sorted([*CONFIGS.glob("grpo/*.yaml"), *CONFIGS.glob("sft/*.yaml")])


def problems(command, values):
    found = jsonschema.Draft202012Validator(json.loads(json_schema(command))).iter_errors(values)
    return [".".join(map(str, error.absolute_path)) + ": " + error.message for error in found]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_an_editor_finds_nothing_wrong_with_a_shipped_configuration(path):
    assert problems(path.parent.name, parse_yaml(path.read_text("utf-8"), str(path))) == []


@pytest.mark.parametrize(
    ("command", "values", "problem"),
    [
        ("grpo", {"rollout": {"grup_size": 3}}, "grup_size"),
        ("grpo", {"rollout": {"engine": "sglang"}}, "sglang"),
        ("grpo", {"learner": {"optimizer": {"lr": -1}}}, "learner.optimizer.lr"),
        ("grpo", {"rewards": [{"weight": 1}]}, "'name' is a required property"),
        ("sft", {"data": {"train": []}}, "data.train"),
        ("sft", {"training": {"pages_per_step": 1.5}}, "training.pages_per_step"),
    ],
)
def test_an_editor_marks_what_the_command_would_refuse(command, values, problem):
    train = "d" if command == "grpo" else [{"root": "d"}]
    whole = {"model": {"path": "m"}, "data": {"train": train}}
    assert problems(command, whole) == []
    (found,) = problems(command, whole | values)
    assert problem in found


def test_every_key_is_described():
    silent = [k.name for schema in SCHEMAS.values() for k in keys(schema) if not k.description]
    assert silent == [], "an editor would show nothing"


def test_every_key_is_read_somewhere():
    by_command = {command: list(keys(schema)) for command, schema in SCHEMAS.items()}
    read = {
        key.name: used_by(key, known)
        for known in by_command.values()
        for key in known
        if key.inner is None
    }
    assert [name for name, modules in read.items() if not modules] == []
    assert "rollout/pool.py" in read["rollout.stall_timeout_s"]
    assert "learner/optim.py" in read["learner.optimizer.muon_lr"]
    assert read["rollout.workers.min"], "those that read rollout.workers"
    assert not any(path.startswith("rewards/") for path in read["learner.optimizer.lr"])


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("rollout.group_size", ["(grpo)", "type     whole number >= 1", "default  28"]),
        ("learner.optimizer.lr", ["(sft, grpo)", "type     number > 0", "default  2e-06"]),
        ("rollout.sampling.temperature", ["number > 0 and <= 2", "default  0.8"]),
        ("algorithm.reward_scaling", ["allowed  group, batch, none", "default  group"]),
        ("rewards[0].name", ["allowed  bench, ", "package.module:callable", "it must be given"]),
        ("rewards.weight", ["rewards[].weight  (grpo)", "type     number"]),
        ("model.lora", ["the keys below, or null", "model.lora.rank", "default  null"]),
        ("learner.optimizer", ["learner.optimizer.warmup_ratio", "Gradient clipping"]),
        ("data.train", ["(sft)", "data.train[].root", "(grpo)", "Bench folder of training pages"]),
        ("checkpoint.keep_last", ["(sft, grpo)"]),
        ("model.freeze.vision", ["true or false", "default  false"]),
    ],
)
def test_a_key_is_explained(name, lines):
    text = explain(name)
    assert [line for line in lines if line not in text] == [], text


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("rollout.grup_size", "rollout.group_size"),
        ("optimizer.lr", "learner.optimizer.lr"),
        ("temperature", "rollout.sampling.temperature"),
        ("pages_per_step", "algorithm.pages_per_step or training.pages_per_step"),
        ("rolout", "rollout"),
        ("zzzz", "sections are"),
        ("", "sections are"),
    ],
)
def test_a_key_that_does_not_exist_gets_its_neighbours(name, near):
    with pytest.raises(ConfigError, match="no such key") as refused:
        explain(name)
    assert near in str(refused.value)


def test_the_command_prints_both(capsys):
    assert main(["config", "schema", "sft"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"]["training"]
    assert main(["config", "explain", "run.seed"]) == 0
    assert "run.seed  (sft, grpo)" in capsys.readouterr().out
    assert main(["config", "explain", "run.sed"]) == 2
    assert "did you mean run.seed" in capsys.readouterr().err
