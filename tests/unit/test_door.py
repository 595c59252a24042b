"""How every command ends when it cannot do what was asked, or is told to stop."""

import signal
import subprocess
import sys

import pytest

import olmrl.__main__ as front
from olmrl.door import behind_door
from olmrl.errors import RunStopped

WRONG = {
    "grpo": ["--config", "nowhere.yaml"],
    "sft": ["--config", "nowhere.yaml"],
    "read": ["nowhere.pdf", "--model", "m", "-o", "out"],
    "bench": ["score", "nowhere", "--candidate", "c"],
    "mix": ["stats", "nowhere", "--output", "out"],
    "synth": ["tests", "nowhere", "out"],
    "checkpoint": ["soup", "/nowhere/a", "/nowhere/b", "out"],
    "data": ["show", "--config", "nowhere.yaml"],
    "config": ["explain", "nowhere"],
    "report": ["nowhere"],
    "init": ["out", "--data", "nowhere", "--model", "m", "--hardware", "cpu"],
}
"""A request of each command that names something which is not there."""


@pytest.mark.parametrize("command", WRONG)
def test_a_command_ends_in_a_sentence_of_its_own(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code = front.main([command, *WRONG[command]])
    except SystemExit as left:  # argparse
        code = left.code
    said = capsys.readouterr().err
    assert code == 2
    *_, last = (line for line in said.splitlines() if not line.startswith("  - "))
    assert last.startswith(f"olmrl {command}") and "nowhere" in said
    assert "Traceback" not in said


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_ctrl_c_at_work_says_how_to_go_on(capsys):
    assert behind_door("olmrl x", interrupted, stopped="stopped; call it again") == 130
    assert capsys.readouterr().err == "olmrl x: stopped; call it again\n"


def test_sigterm_has_a_shells_exit_code_though_ray_handles_it(capsys):
    def handled_by_ray():
        sys.exit(signal.SIGTERM)

    assert behind_door("olmrl x", handled_by_ray, stopped="stopped; call it again") == 143
    assert capsys.readouterr().err == "olmrl x: stopped; call it again\n"
    with pytest.raises(SystemExit) as left:
        behind_door("olmrl x", lambda: sys.exit(2))
    assert left.value.code == 2


def test_a_reader_who_has_left_is_no_error():
    command = [sys.executable, "-m", "olmrl", "config", "schema", "grpo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 141
    assert said == b""


@pytest.mark.parametrize("error", [ValueError, OSError, EOFError])
def test_an_error_of_the_user_is_a_sentence(capsys, error):
    def fail():
        raise error("file.gz: ends early")

    assert behind_door("olmrl x", fail) == 2
    assert capsys.readouterr().err == "olmrl x: file.gz: ends early\n"


def test_work_that_was_stopped_on_its_way_is_no_wrong_request(capsys):
    def work():
        raise RunStopped("a node is gone")

    assert behind_door("olmrl x", work) == 1
    assert capsys.readouterr().err == "olmrl x: a node is gone\n"


def test_an_error_of_a_storages_client_is_a_sentence(capsys):
    def work():
        raise type("NoCredentialsError", (Exception,), {"__module__": "botocore.exceptions"})("no")

    assert behind_door("olmrl x", work) == 2
    assert capsys.readouterr().err == "olmrl x: remote storage cannot be used: no\n"


def test_an_error_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        behind_door("olmrl x", lambda: 1 // 0)
