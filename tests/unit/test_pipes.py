"""A pipe or device where a file was meant is refused, and what a shell makes is read."""

import os
import subprocess
import sys

import pytest

from olmrl.__main__ import main
from olmrl.pipes import read_text

PIPE = "pipe, socket or device"


@pytest.fixture
def pipe(tmp_path):
    path = tmp_path / "a.yaml"
    os.mkfifo(path)
    return str(path)


@pytest.mark.parametrize("place", ["/dev/zero", "/dev/random", "/dev/full"])
def test_a_device_is_refused_by_name_and_through_a_link(tmp_path, place):
    (tmp_path / "link").symlink_to(place)
    for path in (place, tmp_path / "link"):
        with pytest.raises(OSError, match=PIPE):
            read_text(path)


@pytest.mark.parametrize(
    "command",
    [
        ("sft", "--dry-run", "--config"),
        ("grpo", "--dry-run", "--config"),
        ("config", "convert"),
        ("mix", "sample"),
    ],
)
def test_no_command_waits_for_a_pipe(tmp_path, pipe, command, capsys):
    rest = (str(tmp_path / "out"),) if command[0] == "mix" else ()
    assert main([*command, pipe, *rest]) in (1, 2)
    assert PIPE in capsys.readouterr().err


def test_pipes_of_a_shell_are_read(tmp_path):
    call = [sys.executable, "-m", "olmrl", "config", "convert", "/dev/stdin"]
    done = subprocess.run(call, input="a: [", capture_output=True, text=True, check=False)
    assert "/dev/stdin" in done.stderr and PIPE not in done.stderr
    script = f"{sys.executable} -m olmrl config convert <(echo 'a: [')"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert "/dev/fd/" in done.stderr and PIPE not in done.stderr
