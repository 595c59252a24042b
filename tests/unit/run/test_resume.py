"""What a run says of the configuration that it is resumed with."""

import pytest
import yaml

from olmrl.checkpoint.manifest import complete
from olmrl.cluster import Plan
from olmrl.config import GrpoConfig
from olmrl.run.command import run_command, run_parser


@pytest.fixture
def resume(tmp_path, capsys):
    """Begin a run with one checkpoint; gives a function that resumes it under a changed config."""
    for name in ("model", "train", "heldout"):
        (tmp_path / name).mkdir()
    keys = [f"data.{name}={tmp_path / name}" for name in ("train", "heldout")]
    keys += [f"model.path={tmp_path / 'model'}", f"run.dir={tmp_path / 'run'}"]

    def call(*words):
        arguments = run_parser("grpo", "").parse_intermixed_args([*keys, *words])
        plan = Plan(roles=(), shape=None)
        return run_command(
            "grpo", GrpoConfig, arguments, planner=lambda _: plan, start=lambda *_: 0
        ), capsys.readouterr()

    assert call()[0] == 0
    step = tmp_path / "run/checkpoints/step-1"
    step.mkdir()
    complete(str(step), 1, 1)

    def changed(edit, *words):
        file = tmp_path / "run/config.yaml"
        saved = yaml.safe_load(file.read_text())
        edit(saved)
        file.write_text(yaml.safe_dump(saved))
        return call("--resume", "auto", *words)

    return changed


def test_a_key_that_is_newer_than_the_run_has_its_default(resume):
    code, _ = resume(lambda saved: saved["algorithm"].pop("clip_high"))
    assert code == 0
    code, printed = resume(
        lambda saved: saved["algorithm"].pop("clip_high"), "algorithm.clip_high=0.4"
    )
    assert code == 2 and "algorithm.clip_high: 0.2 -> 0.4" in printed.err


def test_a_key_that_is_gone_is_named(resume):
    code, printed = resume(lambda saved: saved["algorithm"].update(old_key=3))
    assert code == 2 and "algorithm.old_key: 3 -> '(absent)'" in printed.err


def test_a_run_that_began_before_a_default_changed_keeps_the_former_one(resume, tmp_path):
    lora = "model.lora={rank: 4}"

    def older(saved):
        del saved["algorithm"]["correction"]["floor"]
        saved["model"]["lora"] = {**LORA, "dropout": 0.1}

    code, printed = resume(older, lora)
    assert code == 0
    assert "model.lora.dropout=0.1, algorithm.correction.floor=0.0" in printed.out
    kept = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert kept["model"]["lora"]["dropout"] == 0.1
    assert kept["algorithm"]["correction"]["floor"] == 0.0
    code, printed = resume(lambda saved: None, lora)  # and at the next resume
    assert code == 0


def test_a_run_of_today_keeps_what_it_was_given(resume):
    code, printed = resume(lambda saved: None, "algorithm.correction.floor=0.0")
    assert code == 2 and "algorithm.correction.floor: None -> 0.0" in printed.err
    code, printed = resume(lambda saved: saved["model"].update(lora={**LORA, "dropout": 0.0}))
    assert code == 2 and "before defaults changed" not in printed.out


LORA = {"rank": 4, "alpha": 32.0, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
