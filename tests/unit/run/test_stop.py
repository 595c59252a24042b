import os
import shutil
import signal
import subprocess
import sys
import threading

import psutil
import pytest

from olmrl.errors import Interrupted, RunStopped
from olmrl.run.stop import StopRequest


@pytest.fixture(autouse=True)
def _handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def begun(grace_s=60):
    stop = StopRequest(grace_s)
    stop.install()
    stop.begun()
    return stop


def test_sigterm_asks_once_and_keeps_the_process_alive():
    stop = begun()
    assert not stop.requested()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested()
    assert stop.exit_code == 143


def test_a_second_ctrl_c_ends_at_once():
    stop = begun()
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.requested() and stop.exit_code == 130
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(1)


def test_the_grace_period_ends():
    stop = begun(grace_s=1e-9)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(RunStopped, match=r"SIGTERM: not saved within checkpoint.grace_s=1e-09"):
        stop.requested()


def test_sigterm_while_ray_starts_ends_the_run_as_at_any_other_time():
    error = StopRequest(60).meaning(SystemExit(signal.SIGTERM))  # as Ray's handler exits
    assert isinstance(error, Interrupted)
    assert error.code == 143
    assert str(error) == "SIGTERM: stopped before there was anything to save"
    other = SystemExit(2)
    assert StopRequest(60).meaning(other) is other


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_before_the_learner_has_begun_a_signal_ends_the_run_at_once(number):
    """Waiting for nodes or engines may take half an hour, and there is nothing to save."""
    stop = StopRequest(grace_s=60)
    stop.install()
    with pytest.raises(Interrupted, match="stopped before there was anything to save") as caught:
        os.kill(os.getpid(), number)
        threading.Event().wait(1)
    assert caught.value.code == 128 + number
    os.kill(os.getpid(), signal.SIGTERM)  # while it cleans up


NODE = """
import os, signal, subprocess, sys, time
from olmrl.run.stop import StopRequest
raylet = subprocess.Popen([sys.argv[1], "60"])
time.sleep(0.2)
stop = StopRequest(grace_s=60)
stop.install()
stop.watch_node()
stop.begun()
print("ready", flush=True)
while not (sys.argv[2] == "alone" and stop.requested()):
    time.sleep(0.05)
stop.ended()
raylet.kill()
raylet.wait()
time.sleep(2)
print("saved", flush=True)
"""


def started(tmp_path, whom):
    raylet = tmp_path / "raylet"
    raylet.symlink_to(shutil.which("sleep"))
    run = subprocess.Popen(
        [sys.executable, "-c", NODE, str(raylet), whom],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert run.stdout.readline() == "ready\n"
    return run


def test_a_run_whose_ray_node_dies_ends_with_a_sentence(tmp_path):
    """Ray itself waits a minute, and then aborts the process with a stack trace."""
    run = started(tmp_path, "node")
    (node,) = (p for p in psutil.Process(run.pid).children() if "raylet" in p.cmdline()[0])
    node.kill()
    out, errors = run.communicate(timeout=60)
    assert (run.returncode, out) == (1, "")
    assert errors.startswith("the Ray node of this run has died, so nothing more can be saved; --r")


@pytest.mark.parametrize("whom", ["group", "alone"])
def test_a_signal_to_the_whole_group_ends_a_run_whose_ray_is_gone(tmp_path, whom):
    run = started(tmp_path, whom)
    (os.killpg if whom == "group" else os.kill)(run.pid, signal.SIGTERM)
    out, errors = run.communicate(timeout=60)
    if whom == "group":
        assert (run.returncode, out) == (143, "")
        assert "--resume auto continues" in errors.splitlines()[-1]
    else:
        assert (run.returncode, out) == (0, "saved\n") and "Ray was stopped" not in errors
