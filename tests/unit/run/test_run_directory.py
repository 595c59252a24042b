import json

import pytest

from olmrl.metrics import read_rows
from olmrl.run.directory import RunDirectory
from olmrl.run.sinks import JsonlSink


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    """Three steps and two evaluations; killed while the row of step 4 was written."""
    directory = RunDirectory(tmp_path / "run")
    directory.create("run: {}\n")
    sink = JsonlSink(directory.metrics)
    for step in (0, 1, 2, 3):
        sink.write(step, {"x": float(step)})
    for step in (1, 2, 3):
        directory.write_step(step, [(0, step - 1, f"page-{step}")])
    for step in (0, 3):
        directory.write_evaluation(step, {"step": step})
    with directory.metrics.open("a") as stream:
        stream.write('{"step": 4, "x"')
    return directory


def test_a_continued_run_tells_no_step_twice(run):
    run.continue_from(2)
    JsonlSink(run.metrics).write(3, {"x": 30.0})
    run.write_step(3, [(0, 2, "page-3")])
    assert [(r["step"], r["x"]) for r in read_rows(run.metrics)] == [
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 30),
    ]
    assert [r["pages"] for r in read_rows(run.steps)] == [
        [[0, i, f"page-{i + 1}"]] for i in range(3)
    ]
    assert [e["step"] for e in run.evaluations()] == [0]
    assert all(json.loads(line) for line in run.metrics.read_text().splitlines())


def test_groups_dropped_behind_a_checkpoint_are_told_again(run):
    run.continue_from(3)
    sink = JsonlSink(run.metrics)
    for step in (1, 2):
        sink.write(step, {"refill/dropped": 8.0})
    run.continue_from(2)
    rows = [(r["step"], "refill/dropped" in r) for r in read_rows(run.metrics)]
    assert rows == [(0, False), (1, False), (2, False), (1, True)]


def test_an_evaluation_that_is_made_again_is_told_once(run):
    run.continue_from(3)
    sink = JsonlSink(run.metrics)
    for step in (1, 3):
        sink.write(step, {"eval/loss": 1.0, "data/eval/held/pages_kept": 2.0})
    run.forget_evaluation(3)
    sink.write(3, {"eval/loss": 2.0})
    rows = [(r["step"], r.get("eval/loss", "step")) for r in read_rows(run.metrics)]
    assert rows == [(0, "step"), (1, "step"), (2, "step"), (3, "step"), (1, 1.0), (3, 2.0)]


def test_a_resumed_run_keeps_its_name_at_wandb(run):
    first = run.wandb_id()
    assert len(first) == 8 and RunDirectory(run.path).wandb_id() == first


def test_a_run_without_checkpoint_begins_anew(run):
    run.continue_from(0)
    assert read_rows(run.metrics) == read_rows(run.steps) == run.evaluations() == []


def test_recorded_groups_of_a_step(run):
    for name in ("step-000001-a", "step-000001-b", "step-000012-a"):
        (run.path / "rollouts" / f"{name}.json").write_text("{}")
    assert run.rollouts_by_step() == {1: 2, 12: 1}
    run.continue_from(1)
    assert run.rollouts_by_step() == {1: 2}
    assert [file.stem for file in run.rollout_files()] == ["step-000001-a", "step-000001-b"]


def test_a_run_begun_by_an_older_olmrl_keeps_the_first_pages(tmp_path):
    old, new = RunDirectory(tmp_path / "old"), RunDirectory(tmp_path / "new")
    old.path.mkdir()
    (old.path / "config.yaml").write_text("run: {}\n")
    (old.path / "metrics.jsonl").write_text('{"step": 1}\n')
    for directory in (old, new):
        directory.create("run: {}\n")
        directory.create("run: {}\n")  # a resume
    assert old.page_seed(7) is None and new.page_seed(7) == 7
