"""Ctrl-C in the seconds before a command has begun: one word, and no traceback."""

import signal
import subprocess
import sys

import pytest

INTERRUPTS_ITSELF = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(60)
"""
ENDED_BY_IT = (-signal.SIGINT, 128 + signal.SIGINT)


def run(words, tmp_path):
    """A command whose first import of pydantic meets Ctrl-C."""
    (tmp_path / "pydantic.py").write_text(INTERRUPTS_ITSELF)
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=120,
        env={"PYTHONPATH": f"{tmp_path}:{':'.join(filter(None, sys.path))}"},
    )  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [["-m", "olmrl.grpo"], ["-m", "olmrl.sft"], ["-m", "olmrl", "grpo"], ["-m", "olmrl.doctor"]],
    ids=" ".join,
)
def test_ctrl_c_while_a_command_is_being_imported(words, tmp_path):
    done = run(words, tmp_path)
    assert done.returncode in ENDED_BY_IT
    assert (done.stdout, done.stderr) == ("", "interrupted\n")


def test_a_program_that_uses_olmrl_keeps_its_traceback(tmp_path):
    done = run(["-c", "import olmrl.config"], tmp_path)
    assert done.returncode in ENDED_BY_IT and "Traceback" in done.stderr
