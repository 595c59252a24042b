"""Two runs on one directory."""

import json
import os
import signal
import socket
import time

import pytest
from children import CONTEXT

from olmrl.run.lock import RunLock, RunLocked


def hold(run_dir, ready):
    RunLock(run_dir).acquire()
    ready.set()
    time.sleep(60)


def test_second_run_is_refused_until_the_first_ends(tmp_path):
    with (
        RunLock(tmp_path),
        pytest.raises(RunLocked, match=rf"process {os.getpid()} on {socket.gethostname()}"),
    ):
        RunLock(tmp_path).acquire()
    with RunLock(tmp_path):
        pass
    assert not (tmp_path / "run.lock").exists()


def test_lock_of_a_killed_run_is_taken_over(tmp_path):
    ready = CONTEXT.Event()
    child = CONTEXT.Process(target=hold, args=(tmp_path, ready))
    child.start()
    assert ready.wait(60)
    with pytest.raises(RunLocked, match=f"process {child.pid} "):
        RunLock(tmp_path).acquire()
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    with RunLock(tmp_path):
        assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()


def test_reused_pid_does_not_count_as_alive(tmp_path):
    with RunLock(tmp_path):
        claim = json.loads((tmp_path / "run.lock").read_text())
    (tmp_path / "run.lock").write_text(json.dumps(claim | {"started": "1", "token": "other"}))
    with RunLock(tmp_path):
        pass


def test_other_host_counts_until_its_heart_stops(tmp_path):
    path = tmp_path / "run.lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "since": "yesterday", "token": "x"}))
    with pytest.raises(RunLocked, match="on elsewhere, since yesterday"):
        RunLock(tmp_path).acquire()
    old = time.time() - 600
    os.utime(path, (old, old))
    with RunLock(tmp_path):
        pass


def test_torn_lock_file_is_taken(tmp_path):
    (tmp_path / "run.lock").write_text('{"host": "x')
    with RunLock(tmp_path):
        pass


def test_release_leaves_the_lock_of_another(tmp_path):
    lock = RunLock(tmp_path)
    lock.acquire()
    path = tmp_path / "run.lock"
    path.write_text(path.read_text().replace(json.loads(path.read_text())["token"], "theirs"))
    lock.release()
    assert path.exists()
