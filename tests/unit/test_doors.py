"""Every command answers help and mistakes at once: without torch, Ray and their like."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from olmrl.__main__ import COMMANDS, main
from olmrl.mix.__main__ import VERBS

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "ray", "pandas", "wandb", "matplotlib", "vllm")
GRPO = ["--config", "configs/grpo/tiny_cpu.yaml"]
SFT = ["--config", "configs/sft/tiny_cpu.yaml"]
CLUSTER = ["--dry-run", "--cluster", "1x8xH100-80G"]

ANSWERS = {
    "": [["--help"], ["--version"], ["grpoo"], *([name, "--help"] for name in COMMANDS)],
    "grpo": [
        [*GRPO, "data.trian=x"],
        [*GRPO, "data.train=/nowhere"],
        [*GRPO, "model.path=/nowhere"],
        ["--config", "/nowhere.yaml"],
        ["--replay", "/nowhere", "--step", "3"],
        ["--replay", "/nowhere"],
        [*CLUSTER, "--config", "configs/grpo/qwen25_vl_7b_synthmix1025.yaml"],
    ],
    "sft": [
        [*SFT, "lerner.workers=2"],
        [*SFT, "data.train=[{root: /nowhere}]"],
        [*CLUSTER, *SFT],
    ],
    "init": [
        ["--help"],
        ["/tmp/never-written", "--data", "/nowhere", "--model", "qwen3_vl", "--hardware", "cpu"],
    ],
    "read": [
        ["--help"],
        ["/nowhere.pdf", "--model", "m", "-o", "out"],
        ["configs", "--model", "/nowhere", "-o", "out"],
        ["configs", "--model", "m", "-o", "out", "--format", "html"],
    ],
    "bench": [
        *([verb, "--help"] for verb in ("score", "compare", "run")),
        ["score", "/nowhere", "--candidate", "a"],
        ["run", "/nowhere", "--model", "m"],
    ],
    "mix": [[verb, "--help"] for verb in VERBS] + [["rendr"]],
    "synth": [
        *([verb, "--help"] for verb in ("pages", "model", "tests")),
        ["tests", "/nowhere", "out"],
    ],
    "checkpoint": [
        *([verb, "--help"] for verb in ("hf", "soup", "fp8", "parity")),
        ["hf", "/nowhere", "out"],
        ["fp8", "/nowhere", "out"],
    ],
    "data": [["show", "--help"], ["show", *SFT, "data.trian=x"]],
    "doctor": [["--help"], []],
    "config": [
        *([verb, "--help"] for verb in ("convert", "schema", "explain")),
        ["convert", "/nowhere.yaml"],
        ["schema", "grpo"],
        ["explain", "run.sed"],
    ],
    "report": [["/nowhere"]],
    "quickstart": [],
}
"""Command lines by door; each is answered before anything heavy is loaded."""

SCRIPT = """
import importlib, json, sys

door, heavy, lines = json.loads(sys.argv[1])
module = importlib.import_module("olmrl." + door + ".__main__" if door else "olmrl.__main__")
for line in lines:
    try:
        module.main(line)
    except SystemExit:
        pass
    loaded = sorted(set(heavy) & set(sys.modules))
    assert not loaded, (line, loaded)
"""


@pytest.mark.parametrize("door", ANSWERS)
def test_a_door_answers_before_anything_heavy_is_loaded(door):
    arguments = json.dumps([door, HEAVY, ANSWERS[door]])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, arguments], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def test_every_command_has_a_room_with_a_door():
    assert set(COMMANDS) == {path.parent.name for path in ROOT.glob("olmrl/*/__main__.py")}


@pytest.mark.parametrize("way", [["olmrl"], ["olmrl.grpo"]])
def test_help_shows_how_the_command_was_called(way, capsys):
    command = [sys.executable, "-m", *way, *(["grpo"] if way == ["olmrl"] else []), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    called = " ".join(["python", *command[1:-1]])
    assert done.stdout.startswith(f"usage: {called} [-h]")
    assert "--replay RUN" in done.stdout and "--step N" in done.stdout


def test_the_script_lists_its_commands_and_knows_the_nearest(capsys):
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed and line in listed for name, line in COMMANDS.items())
    assert main(["chekpoint", "hf"]) == 2
    assert "unknown command 'chekpoint'; did you mean 'checkpoint'?" in capsys.readouterr().err
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("olmrl 0.")
    assert main([]) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["grpo", *GRPO, "--resume", "auto", "data.trian=x"], 2, "did you mean 'train'"),
        (["sft", *SFT, "--resume", "auto", "data.trian=x"], 2, "did you mean 'train'"),
        (["data", "show", *SFT, "--index", "3", "data.trian=x"], 2, "did you mean 'train'"),
        (["grpo", "--replay", "no", "--step", "1"], 2, "no: not a run directory"),
        (["bench", "score", "no", "--candidate", "a"], 2, "no: no such folder"),
        (["read", "no.pdf", "--model", "a/b", "-o", "out"], 2, "no.pdf: no such file or folder"),
        (["read", ".", "--model", "./no", "-o", "out"], 2, "--model ./no: no such folder"),
        (["report", "no"], 2, "not a run directory"),
        (["checkpoint", "hf", "no", "out"], 2, "no: not a run directory"),
        (["mix", "rendr"], 2, "did you mean 'render'?"),
    ],
)
def test_a_mistake_ends_in_one_sentence(monkeypatch, capsys, tmp_path, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("wrong", [["--replay", "run"], ["--step", "2"], ["--data"]])
def test_wrong_usage_ends_with_exit_code_2(capsys, wrong):
    with pytest.raises(SystemExit) as ended:
        main(["grpo", *wrong])
    assert ended.value.code == 2
    assert capsys.readouterr().err
