"""A command whose Ray node dies ends at once, with a sentence."""

import shutil
import subprocess
import sys

import psutil

COMMAND = """
import subprocess, sys, time
from olmrl.ray_node import dying_with_node
raylet = subprocess.Popen([sys.argv[1], "60"])
time.sleep(0.2)
with dying_with_node("the same command goes on"):
    print("ready", flush=True)
    sys.stdin.readline()
raylet.kill()
raylet.wait()
time.sleep(2)
print("done", flush=True)
"""


def started(tmp_path):
    raylet = tmp_path / "raylet"
    raylet.symlink_to(shutil.which("sleep"))
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = subprocess.Popen([sys.executable, "-c", COMMAND, str(raylet)], text=True, **pipes)
    assert command.stdout.readline() == "ready\n"
    return command


def test_the_death_of_its_node_ends_a_command(tmp_path):
    command = started(tmp_path)
    (node,) = (p for p in psutil.Process(command.pid).children() if "raylet" in p.cmdline()[0])
    node.kill()
    said, problem = command.stdout.read(), command.stderr.read()
    assert command.wait(30) == 1 and not said
    assert problem == "the Ray node of this command has died; the same command goes on\n"


def test_a_node_may_go_when_the_work_is_done(tmp_path):
    command = started(tmp_path)
    said, problem = command.communicate("\n", timeout=30)
    assert (command.returncode, said, problem) == (0, "done\n", "")
