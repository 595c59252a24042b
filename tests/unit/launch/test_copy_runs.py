"""`launch/copy_runs.py`: what reaches the bucket, and in which order."""

import runpy

import fsspec
import pytest


@pytest.fixture(scope="module")
def copier(launch):
    return runpy.run_path(str(launch / "copy_runs.py"))


@pytest.fixture
def runs(tmp_path):
    for name in ["a/metrics.jsonl", "a/checkpoints/step-1/COMPLETE", "a/checkpoints/step-1/zz.bin"]:
        path = tmp_path / "runs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, "utf-8")
    return tmp_path / "runs"


def bucket_files(folder):
    fs = fsspec.filesystem("memory")
    return {name.removeprefix(folder): fs.cat_file(name).decode() for name in fs.find(folder)}


@pytest.fixture
def bucket():
    yield "/bucket/runs"
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


def test_runs_arrive_whole(copier, runs, bucket):
    assert copier["main"]([str(runs), f"memory:/{bucket}", "--once"]) == 0
    assert bucket_files(bucket) == {
        f"/{path.relative_to(runs)}": path.read_text("utf-8")
        for path in runs.rglob("*")
        if path.is_file()
    }


def test_only_what_changed_goes_again(copier, runs, bucket):
    sent = {}
    assert copier["copy"](runs, f"memory:/{bucket}", sent) == 3
    assert copier["copy"](runs, f"memory:/{bucket}", sent) == 0
    (runs / "a/metrics.jsonl").write_text("a longer text than before", "utf-8")
    assert copier["copy"](runs, f"memory:/{bucket}", sent) == 1
    assert bucket_files(bucket)["/a/metrics.jsonl"] == "a longer text than before"


def test_a_checkpoint_counts_at_the_target_only_when_all_of_it_is_there(copier, runs):
    order = [name for name, _ in copier["changed"](runs, {})]
    assert order[-1] == "a/checkpoints/step-1/COMPLETE"


def test_a_checkpoint_that_is_being_written_stays(copier, runs, bucket):
    partial = runs / "a/checkpoints/.step-2.partial/x.bin"
    partial.parent.mkdir()
    partial.write_text("half", "utf-8")
    copier["copy"](runs, f"memory:/{bucket}", {})
    assert not [name for name in bucket_files(bucket) if "partial" in name]
