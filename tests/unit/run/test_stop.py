import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from olmrl.errors import RunStopped
from olmrl.run.stop import StopRequest


@pytest.fixture(autouse=True)
def _handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_sigterm_asks_once_and_keeps_the_process_alive():
    stop = StopRequest(grace_s=60)
    stop.install()
    assert not stop.requested()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested()
    assert stop.exit_code == 143


def test_a_second_ctrl_c_ends_at_once():
    stop = StopRequest(grace_s=60)
    stop.install()
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.requested() and stop.exit_code == 130
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(1)


def test_the_grace_period_ends():
    stop = StopRequest(grace_s=1e-9)
    stop.install()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(RunStopped, match=r"SIGTERM: not saved within checkpoint.grace_s=1e-09"):
        stop.requested()


NODE = """
import os, signal, subprocess, sys, time
from olmrl.run.stop import StopRequest
raylet = subprocess.Popen([sys.argv[1], "60"])
time.sleep(0.2)
stop = StopRequest(grace_s=60)
stop.install()
print("ready", flush=True)
while not (sys.argv[2] == "alone" and stop.requested()):
    time.sleep(0.05)
stop.ended()
raylet.kill()
raylet.wait()
time.sleep(2)
print("saved", flush=True)
"""


@pytest.mark.parametrize("whom", ["group", "alone"])
def test_a_signal_to_the_whole_group_ends_a_run_whose_ray_is_gone(tmp_path, whom):
    raylet = tmp_path / "raylet"
    raylet.symlink_to(shutil.which("sleep"))
    run = subprocess.Popen(
        [sys.executable, "-c", NODE, str(raylet), whom],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert run.stdout.readline() == "ready\n"
    (os.killpg if whom == "group" else os.kill)(run.pid, signal.SIGTERM)
    out, errors = run.communicate(timeout=60)
    if whom == "group":
        assert (run.returncode, out) == (143, "")
        assert "--resume auto continues" in errors.splitlines()[-1]
    else:
        assert (run.returncode, out) == (0, "saved\n") and "Ray was stopped" not in errors
