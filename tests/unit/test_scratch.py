"""What killed processes leave, and what the next one removes."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from olmrl import scratch, storage
from olmrl.scratch import Scratch, sweep

HOLDS = """
import sys, time
from pathlib import Path
from olmrl.scratch import Scratch
folder = Scratch("test")
Path(folder.name, "big").write_text("x")
print(folder.name, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def aged(monkeypatch):
    """Everything counts as old enough."""
    monkeypatch.setattr(scratch, "_YOUNG_S", -1.0)
    scratch._sweep_once.cache_clear()


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def holder() -> tuple[subprocess.Popen, Path]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDS],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return child, Path(child.stdout.readline().strip())


def test_the_next_process_removes_what_a_killed_one_left_and_nothing_of_a_living_one(
    temporary, aged
):
    (living, its_own), (killed, left) = holder(), holder()
    killed.kill()
    killed.wait()
    assert left.is_dir() and its_own.is_dir()
    with Scratch("test") as own:
        assert not left.exists()
        assert (its_own / "big").exists() and Path(own).is_dir()
    assert not Path(own).exists()
    living.communicate()
    assert not its_own.exists()


def test_only_folders_and_files_of_this_name_are_removed(tmp_path, aged):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").write_text("x")
    (tmp_path / "olmrl-scratch-link").symlink_to(victim)
    (tmp_path / ".a.pdf.0123abcd.olmrl").symlink_to(victim / "kept")
    os.mkfifo(tmp_path / ".pipe.0123abcd.olmrl")
    for name in (".backup.20261128", "olmrl-mix-x", ".olmrl", "a.0123abcd.olmrl"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".torn.json.0123abcd.olmrl").write_text("half")
    before = set(os.listdir(tmp_path))
    sweep(str(tmp_path))
    assert before - set(os.listdir(tmp_path)) == {".torn.json.0123abcd.olmrl"}
    assert (victim / "kept").read_text() == "x"


def test_a_young_folder_is_left_as_its_maker_may_not_hold_it_yet(tmp_path):
    (tmp_path / "olmrl-scratch-new").mkdir()
    sweep(str(tmp_path))
    assert (tmp_path / "olmrl-scratch-new").is_dir()


def test_a_file_that_is_being_written_is_not_swept(tmp_path, aged):
    with storage.atomic_open(tmp_path / "a.txt") as stream:
        stream.write(b"x")
        sweep(str(tmp_path))
        assert len(os.listdir(tmp_path)) == 1
    assert (tmp_path / "a.txt").read_text() == "x"


WRITES = """
import os, signal, sys
from olmrl import storage
with storage.atomic_open(sys.argv[1]) as stream:
    stream.write(b"half")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_write_leaves_neither_half_a_file_nor_rubbish_for_ever(tmp_path, aged):
    for _ in range(3):
        subprocess.run([sys.executable, "-c", WRITES, tmp_path / "a.json"], check=False)
    assert not (tmp_path / "a.json").exists()
    storage.write_text(tmp_path / "b.json", "{}")
    assert os.listdir(tmp_path) == ["b.json"]


def test_a_folder_that_may_not_be_listed_is_still_written(tmp_path):
    sweep(str(tmp_path / "none"))
