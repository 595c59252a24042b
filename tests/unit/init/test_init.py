"""`olmrl init`: what it writes fits pages, model and machine, explains itself, and is clean."""

import builtins
import re
import shlex
import sys
from dataclasses import replace

import pytest
import yaml

from olmrl.__main__ import main
from olmrl.cluster import Node, PlanError, Resources
from olmrl.config import GrpoConfig, SftConfig, load
from olmrl.doctor.facts import Facts, gather, parse_gpus
from olmrl.hardware import GIB
from olmrl.init.data import look_at
from olmrl.init.next import cheapest_gpus
from olmrl.init.propose import models_of, propose
from olmrl.preflight.machine import Machine, machine_of
from olmrl.read.model import Taught

SCHEMAS = {"sft": SftConfig, "grpo": GrpoConfig}


def init(folder, data, model, hardware, *more):
    words = ["init", str(folder), "--data", str(data), "--model", str(model)]
    return main([*words, "--hardware", hardware, *more])


@pytest.mark.parametrize(
    ("method", "model", "hardware", "expected"),
    [
        ("sft", "qwen2_5_vl", "1x8xH100-80G", {"model.path": "Qwen/Qwen2.5-VL-7B-Instruct",
         "model.lora": None}),
        ("sft", "qwen3_5", "1x1xL4-24G", {"model.path": "Qwen/Qwen3.5-9B", "learner.workers": 1}),
        ("sft", "qwen3_vl", "cpu", {"model.path": "Qwen/Qwen3-VL-2B-Instruct",
         "learner.use_gpu": False}),
        ("sft", "TINY", "cpu", {"model.dtype": "float32", "learner.wrap": "root"}),
        ("grpo", "TINY", "cpu", {"model.dtype": "float32", "rollout.group_size": 8}),
        ("grpo", "qwen3_vl", "1x1xH100-80G", {"rollout.colocate": True}),
        ("grpo", "allenai/olmOCR-2-7B-1025", "2x8xH100-80G", {"data.prompt": "olmocr-v4",
         "rollout.colocate": False, "model.lora": None}),
    ],
)  # fmt: skip
def test_what_is_written_is_clean_and_made_for_the_machine(
    tiny_pages, tiny_model, tmp_path, capsys, method, model, hardware, expected
):
    data = tiny_pages / "sft" if method == "sft" else tiny_pages
    model = str(tiny_model) if model == "TINY" else model
    assert init(tmp_path / "mine", data, model, hardware) == 0
    told = capsys.readouterr().out
    path = tmp_path / "mine/config.yaml"
    config = load(SCHEMAS[method], path)
    for key, value in expected.items():
        found = config
        for part in key.split("."):
            found = getattr(found, part)
        assert found == value, key
    *_, dry, start = (line.split() for line in told.splitlines())
    assert dry[:2] == ["olmrl", method] and "--dry-run" in dry
    assert start == ["olmrl", method, "--config", str(path)]
    assert main(dry[1:]) == 0
    if method == "grpo":
        assert config.data.heldout == str(tiny_pages / "heldout")
        assert config.rollout.workers >= 1
        gpus = {"2x8xH100-80G": 16, "1x1xH100-80G": 1}.get(hardware)
        if gpus:
            assert config.learner.workers + config.rollout.workers == max(gpus, 2)


def test_every_key_in_the_file_has_its_comment(tiny_pages, tiny_model, tmp_path, capsys):
    assert init(tmp_path / "mine", tiny_pages, tiny_model, "cpu") == 0
    lines = (tmp_path / "mine/config.yaml").read_text().splitlines()
    assert all(len(line) <= 100 or "/" in line for line in lines)
    leaves = [k for k, line in enumerate(lines) if ": " in line and line.lstrip()[0] not in "#-"]
    assert leaves and [lines[k] for k in leaves if lines[k - 1].lstrip()[:1] != "#"] == []
    assert lines[0].startswith("# Purpose:") and "olmrl config explain KEY" in "\n".join(lines)


def test_questions_are_asked_at_a_terminal_only(
    tiny_pages, tiny_model, tmp_path, capsys, monkeypatch
):
    with pytest.raises(SystemExit) as ended:
        main(["init", str(tmp_path / "a"), "--model", str(tiny_model)])
    assert ended.value.code == 2 and "--data is needed" in capsys.readouterr().err
    answers = iter([str(tiny_pages), "", str(tiny_pages / "nowhere")])
    asked = []

    def answer(question):
        asked.append(question)
        return next(answers)

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(builtins, "input", answer)
    assert main(["init", str(tmp_path / "b"), "--model", str(tiny_model)]) == 0
    assert len(asked) == 2 and "[auto]" in asked[1], "an option answers its question"

    def leave(question):
        raise EOFError

    monkeypatch.setattr(builtins, "input", leave)
    assert main(["init", str(tmp_path / "c")]) == 130
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("data", "method", "message"),
    [
        ("nowhere", None, "no such folder"),
        ("train", "sft", "is a bench folder"),
        ("sft", "grpo", "olmrl synth tests"),
        ("train/pdfs", None, "no page pair"),
    ],
)
def test_pages_that_do_not_suit_are_refused(tiny_pages, tiny_model, tmp_path, capsys, data, method, message):  # fmt: skip  # noqa: E501
    more = ["--method", method] if method else []
    assert init(tmp_path / "mine", tiny_pages / data, tiny_model, "cpu", *more) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("model", "hardware", "message"),
    [
        ("Qwen/Qwen2.5-VL-72B-Instruct", "1x1xL4-24G", "needs 285 GiB"),
        ("somebody/unknown", "1x8xH100-80G", "size is not known"),
        ("/nowhere", "cpu", "no such folder"),
        ("qwen3_vl", "1x8xH1000-80G", "GPU H1000 is unknown"),
        ("google/gemma-3-4b", "cpu", "cannot train"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(
    tiny_pages, tmp_path, capsys, model, hardware, message
):
    assert init(tmp_path / "mine", tiny_pages, model, hardware) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert not (tmp_path / "mine").exists()


def test_where_nothing_fits_the_smallest_model_is_named_and_a_tiny_one_offered(tiny_pages):
    node = Node(16.0, memory=8.0 * GIB)
    small = Machine(Resources((node,)), False, True, "", "a small CPU")
    with pytest.raises(PlanError) as refused:
        propose(look_at(str(tiny_pages)), "qwen2_5_vl", Taught(), small, "runs/x")
    said = str(refused.value)
    assert said.startswith("Qwen/Qwen2.5-VL-3B-Instruct on a small CPU: node 0 needs ")
    assert "olmrl synth model tiny --texts PAGES" in said


@pytest.mark.parametrize(
    ("method", "model", "rents"),
    [
        ("sft", "qwen2_5_vl", "1x1x4090-24G"),
        ("sft", "Qwen/Qwen2.5-VL-3B-Instruct", "1x1x4090-24G"),
        ("grpo", "qwen3_vl", "1x1x4090-24G"),
    ],
)
def test_a_run_that_would_take_days_on_a_cpu_is_said_to_and_others_are_offered(
    tiny_pages, tiny_model, tmp_path, capsys, monkeypatch, method, model, rents
):
    data = tiny_pages / "sft" if method == "sft" else tiny_pages
    folder = tmp_path / "my pages"
    facts = replace(gather(), gpus=(), memory=int(32 * GIB), usable_cores=2.0)
    for door in ("init.commands", "run.command"):
        monkeypatch.setattr(f"olmrl.{door}.gather", lambda *_: facts)
    assert init(folder, data, model, "cpu") == 0
    told = capsys.readouterr().out
    slow = next(line for line in told.splitlines() if "TOO SLOW" in line)
    assert re.search(r"about \d+ (minutes|hours|days) a step, \d+ (hours|days) in all", slow)
    text = (folder / "config.yaml").read_text()
    assert "TOO SLOW ON A CPU" in text.partition("\nrun:")[0]
    lines = [line.strip() for line in told.splitlines() if line.startswith("  olmrl")]
    words = [shlex.split(line, comments=True)[1:] for line in lines]
    *offers, dry, _ = words
    assert main(dry) == 0
    assert "  slow: a step takes about " in capsys.readouterr().out.split("\n\n")[0]
    gpu, quick, *tiny = offers
    assert gpu[-2:] == ["--hardware", rents] and main(gpu) == 0
    assert "TOO SLOW" not in capsys.readouterr().out
    assert quick == ["quickstart", "--small"]
    if method == "grpo":
        assert tiny == [], "GRPO teaches nothing to a model that cannot read"
        return
    make, init_tiny = tiny
    assert make[:3] == ["synth", "model", "tiny"] and make[-1] == str(data)
    assert main([str(tiny_model) if word == "tiny" else word for word in init_tiny]) == 0
    assert "TOO SLOW" not in capsys.readouterr().out


def test_where_no_machine_of_the_list_is_large_enough_none_is_offered(tiny_pages):
    found = look_at(str(tiny_pages / "sft"))
    assert cheapest_gpus(found, "somebody/unknown", Taught()) is None
    assert cheapest_gpus(found, "qwen3_5", Taught()) == "1x1x4090-24G"


def test_nothing_is_overwritten(tiny_pages, tiny_model, tmp_path, capsys):
    assert init(tmp_path, tiny_pages, tiny_model, "cpu") == 0
    before = (tmp_path / "config.yaml").read_text()
    assert init(tmp_path, tiny_pages, tiny_model, "cpu") == 2
    assert "not overwritten" in capsys.readouterr().err
    assert (tmp_path / "config.yaml").read_text() == before


def test_folders_for_training_and_held_out_pages_are_told_apart(tiny_pages, tmp_path):
    whole = look_at(str(tiny_pages))
    assert (whole.method, whole.held_out) == ("grpo", str(tiny_pages / "heldout"))
    alone = look_at(str(tiny_pages / "train"))
    assert alone.held_out is None and alone.pages == whole.pages > 0
    for name in ("train", "val"):
        (tmp_path / name).symlink_to(tiny_pages / "sft")
    pairs = look_at(str(tmp_path))
    assert (pairs.method, pairs.held_out) == ("sft", str(tmp_path / "val"))


def test_this_machine_is_taken_as_it_is():
    row = "NVIDIA H100 80GB HBM3, 81559, 4, 580.95.05, Disabled, 9.0"
    facts = Facts((3, 11, 0), (), {}, "", memory=int(200 * GIB), usable_cores=32.0)
    alone = machine_of("auto", facts)
    assert not alone.on_gpu and not alone.bfloat16 and alone.resources.gpus == 0
    gpus = Facts((3, 11, 0), (), {}, "", gpus=parse_gpus(f"{row}\n{row}"), memory=int(200 * GIB))
    machine = machine_of("auto", gpus)
    assert machine.on_gpu and machine.cluster == "1x2xH100-80G"
    assert machine.resources.gpu_memory == pytest.approx(79.6 * GIB, rel=0.01)
    assert not machine_of("cpu", gpus).on_gpu


def test_a_family_stands_for_its_models_from_large_to_small():
    assert models_of("qwen3_5") == [f"Qwen/Qwen3.5-{size}" for size in ("9B", "4B", "2B", "0.8B")]
    assert models_of("Qwen/Qwen3.5-2B") == ["Qwen/Qwen3.5-2B"]


def test_keys_are_written_as_yaml_reads_them(tiny_pages, tiny_model, tmp_path):
    init(tmp_path, tiny_pages / "sft", tiny_model, "cpu")
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert values["data"]["train"] == [{"root": str(tiny_pages / "sft")}]
    assert isinstance(values["learner"]["optimizer"]["lr"], float)
