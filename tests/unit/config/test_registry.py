"""Names in a configuration: checked without an import, loaded where they are used."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from olmrl.config import ConfigError, GrpoConfig, SftConfig, load, registered
from olmrl.config.registry import Registry, construct
from olmrl.data.steps import Step, build_pipeline
from olmrl.learner.loss import PolicyLoss, policy_loss
from olmrl.rewards.registry import build
from olmrl.weight_sync.transport import Transport, load_transport

REGISTRIES = [registered.REWARDS, registered.LOSSES, registered.STEPS, registered.TRANSPORTS]
GRPO = ["model.path=m", "data.train=d"]
SFT = ["model.path=m", "data.train=[{root: d}]"]


@pytest.mark.parametrize(
    ("registry", "base"),
    [
        (registered.LOSSES, PolicyLoss),
        (registered.STEPS, Step),
        (registered.TRANSPORTS, Transport),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_every_name_leads_to_a_class_of_its_kind(registry: Registry, base: type):
    assert all(issubclass(registry.load(name), base) for name in registry.paths)


def test_every_reward_can_be_built():
    for name in registered.REWARDS.paths:
        assert build(load_grpo(f"rewards=[{{name: {name}}}]").rewards[0]).name == name


def load_grpo(*overrides: str) -> GrpoConfig:
    return load(GrpoConfig, None, [*GRPO, *overrides])


@pytest.mark.parametrize(
    ("schema", "override", "message"),
    [
        (GrpoConfig, "rewards=[{name: edit_distanse}]", "rewards.0.name: unknown reward"),
        (GrpoConfig, "rewards=[{name: edit_distanse}]", "did you mean 'edit_distance'?"),
        (GrpoConfig, "algorithm.loss=drgrpo", "did you mean 'dr_grpo'?"),
        (GrpoConfig, "algorithm.loss=ppo", "allowed: grpo, bnpo, dr_grpo, dapo, cispo"),
        (GrpoConfig, "algorithm.loss=3", "algorithm.loss"),
        (GrpoConfig, "weight_sync.transport=ncl", "did you mean 'nccl'?"),
        (GrpoConfig, "weight_sync.transport=rdma", "allowed: auto, object_store, nccl, ipc"),
        (GrpoConfig, "weight_sync.transport='my:'", "package.module:callable"),
        (SftConfig, "data.pipeline=[{name: Prompt}, {name: Tokeniser}]", "data.pipeline.1: unkno"),
        (SftConfig, "data.pipeline=[{name: Tokeniser}]", "did you mean 'Tokenizer'?"),
        (SftConfig, "data.pipeline=[{prompt: x}]", "unknown step None"),
        (SftConfig, "data.train=[{root: d, pipeline: [{name: X}]}]", "allowed: FrontMatterPars"),
    ],
)
def test_an_unknown_name_is_refused_when_the_configuration_is_read(schema, override, message):
    shared = GRPO if schema is GrpoConfig else SFT
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(schema, None, [*shared, override])


def test_reading_a_configuration_imports_nothing_that_it_names():
    code = f"""
import sys
from olmrl.config import GrpoConfig, SftConfig, load
load(GrpoConfig, None, {GRPO!r} + [
    "algorithm.loss=no_such:Loss", "weight_sync.transport=no_such.either:T",
    "rewards=[{{name: bench}}, {{name: no_such:reward}}]"])
load(SftConfig, None, {SFT!r} + ["data.pipeline=[{{name: Prompt}}, {{name: no_such:Step}}]"])
rooms = {{name.split(".")[1] for name in sys.modules if name.startswith("olmrl.")}}
assert rooms == {{"config", "pipes", "redaction", "shipped"}}, rooms
assert not {{"torch", "numpy", "ray"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def load_step(name: str) -> Step:
    return build_pipeline([{"name": name}], "data.pipeline").steps[0]


def load_loss(name: str) -> PolicyLoss:
    return policy_loss(load_grpo(f"algorithm.loss={name}").algorithm)


@pytest.mark.parametrize("use", [load_step, load_loss, load_transport])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:X", "'no_such_module:X': cannot import 'no_such_module'"),
        ("olmrl.types:Pag", "'olmrl.types:Pag': olmrl.types has no 'Pag'"),
        ("olmrl.types:Page", "'olmrl.types:Page': is not a class derived from olmrl"),
        ("olmrl.types:Page.size.x", "olmrl.types has no 'Page.size.x'"),
    ],
)
def test_an_import_path_that_leads_nowhere_is_explained_where_it_is_used(use, name, message):
    with pytest.raises(ValueError, match=message):
        use(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lenght": 3}, "part x: unknown option 'lenght'; did you mean 'length'? its options: le"),
        ({"zzz": 3}, "part x: unknown option 'zzz'; its options: length"),
        ({}, "part x: "),
        ({"length": -1}, "part x: length is negative"),
    ],
)
def test_wrong_options_are_explained(options, message):
    class Part:
        def __init__(self, length: int) -> None:
            if length < 0:
                raise ValueError("length is negative")

    with pytest.raises(ValueError, match=re.escape(message)):
        construct("part x", Part, options)


def test_built_in_losses_have_no_options():
    with pytest.raises(ValueError, match=r"loss 'grpo': unknown option 'beta'.*no options"):
        policy_loss(load_grpo("algorithm.loss=grpo", "algorithm.loss_options={beta: 1}").algorithm)
