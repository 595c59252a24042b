"""What a run says of the configuration that it is resumed with."""

import errno
import json

import huggingface_hub
import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from olmrl.checkpoint.manifest import complete
from olmrl.cluster import Plan
from olmrl.config import GrpoConfig
from olmrl.errors import RunStopped
from olmrl.run.command import run_command, run_parser
from olmrl.run.directory import RunDirectory

TEST = {"pdf": "a.pdf", "page": 1, "id": "1", "type": "present", "text": "A page."}


@pytest.fixture
def call(tmp_path, capsys):
    """Gives a function that starts a run which does nothing: exit code, and what was printed."""
    (tmp_path / "model").mkdir()
    for name in ("train", "heldout"):
        (tmp_path / name / "pdfs").mkdir(parents=True)
        (tmp_path / name / "pdfs/a.pdf").touch()
        (tmp_path / name / "tests.jsonl").write_text(json.dumps(TEST))
    described = {"model_type": "qwen2_5_vl", "vision_config": {"depth": 1}, "image_token_id": 1}
    (tmp_path / "model/config.json").write_text(json.dumps(described))
    words = WordLevel({"<|im_end|>": 0, "<|image_pad|>": 1}, unk_token="<|im_end|>")
    Tokenizer(words).save(str(tmp_path / "model/tokenizer.json"))
    (tmp_path / "model/preprocessor_config.json").write_text('{"patch_size": 14}')
    save_file({"norm": np.ones(2, np.float32)}, tmp_path / "model/model.safetensors")
    keys = [f"data.{name}={tmp_path / name}" for name in ("train", "heldout")]
    keys += [f"model.path={tmp_path / 'model'}", f"run.dir={tmp_path / 'run'}"]

    def call(*words, start=lambda *_: 0):
        arguments = run_parser("grpo", "").parse_intermixed_args([*keys, *words])
        plan = Plan(roles=(), shape=None)
        return run_command(
            "grpo", GrpoConfig, arguments, planner=lambda _: plan, start=start
        ), capsys.readouterr()

    return call


@pytest.fixture
def resume(tmp_path, call):
    """Begin a run with one checkpoint; gives a function that resumes it under a changed config."""
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


def test_a_start_that_came_to_nothing_does_not_claim_the_directory(tmp_path, call):
    def no_cluster(*_):
        RunDirectory(tmp_path / "run").bad_page("a.pdf::1", "a.pdf", "torn")
        raise RunStopped("no Ray there")

    assert call(start=no_cluster)[0] == 1
    assert call()[0] == 0
    assert RunDirectory(tmp_path / "run").bad_pages() == []
    (tmp_path / "run/metrics.jsonl").write_text('{"step": 0}\n')
    code, printed = call()
    assert code == 2 and "holds a run already" in printed.err
    assert call("--resume", "auto")[0] == 0


def test_a_model_that_cannot_be_trained_is_refused_before_anything_starts(tmp_path, call):
    def never(*_):
        raise AssertionError

    weights = tmp_path / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    code, printed = call(start=never)
    assert code == 2 and f"model.path: {weights}: truncated" in printed.err
    save_file({"module.norm": np.ones(2, np.float32)}, weights)
    code, printed = call()
    assert code == 0 and "without their 'module.'" in printed.out


def test_a_model_that_cannot_be_asked_for_is_told_before_anything_starts(call, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    code, printed = call("model.path=nobody/nothing", start=lambda *_: pytest.fail("it started"))
    assert code == 2
    assert printed.err.splitlines()[-1].startswith(
        "grpo: model.path: nobody/nothing: no such folder here; as a name on the Hub"
    )


@pytest.mark.parametrize("place", ["/dev/null/x", "{tmp}/file/run", "{tmp}/readonly/run"])
def test_a_run_directory_that_cannot_be_used_is_a_sentence(tmp_path, call, place):
    (tmp_path / "file").touch()
    (tmp_path / "readonly").mkdir(mode=0o500)
    code, printed = call(f"run.dir={place.format(tmp=tmp_path)}")
    if code == 0:
        pytest.skip("root may write anywhere")
    assert code == 2 and printed.err.startswith("grpo: run.dir: ")
    assert printed.err.count("\n") == 1 and place.split("/")[-1] in printed.err


def test_a_full_disk_at_the_start_is_a_sentence(call, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "run/x"))

    code, printed = call(start=full)
    assert code == 1 and "run/x: No space left on device; free space" in printed.err


def test_a_run_that_began_before_a_default_changed_keeps_the_former_one(resume, tmp_path):
    lora = "model.lora={rank: 4}"

    def older(saved):
        (tmp_path / "run/format").unlink(missing_ok=True)
        del saved["algorithm"]["correction"]["floor"]
        saved["model"]["lora"] = {**LORA, "dropout": 0.1}

    code, printed = resume(older, lora)
    assert code == 0
    assert "model.lora.dropout=0.1, algorithm.correction.floor=0.0" in printed.out
    kept = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert kept["model"]["lora"]["dropout"] == 0.1
    assert kept["algorithm"]["correction"]["floor"] == 0.0
    assert "begun by an older olmrl" in printed.out
    code, printed = resume(lambda saved: None, lora)  # and at the next resume
    assert code == 0
    code, printed = resume(lambda saved: None, lora, "--allow-config-change")
    assert code == 0
    kept = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert kept["model"]["lora"]["dropout"] == 0.0  # asked for by name


def test_a_run_of_today_keeps_what_it_was_given(resume):
    code, printed = resume(lambda saved: None, "algorithm.correction.floor=0.0")
    assert code == 2 and "algorithm.correction.floor: None -> 0.0" in printed.err
    code, printed = resume(lambda saved: saved["model"].update(lora={**LORA, "dropout": 0.0}))
    assert code == 2 and "before defaults changed" not in printed.out


LORA = {"rank": 4, "alpha": 32.0, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
