"""A run directory that is being written: only what is new is read, and nothing torn is shown."""

import json
import os

from report_run import PAGES, new_run, rollout, write_evaluation, write_group, write_steps

from olmrl.report.follow import GROUPS, MetricsFile, RunView
from olmrl.run.lock import RunLock


def test_only_what_is_new_is_read(tmp_path, monkeypatch):
    directory = new_run(tmp_path)
    write_steps(directory, 1, 3000)
    file = MetricsFile(directory.metrics)
    assert file.update() and file.rows == 3000
    taken = []
    take = MetricsFile._take
    monkeypatch.setattr(MetricsFile, "_take", lambda s, line: (taken.append(line), take(s, line)))
    assert not file.update() and taken == []
    write_steps(directory, 3001, 3002)
    assert file.update() and len([line for line in taken if line]) == 2
    assert file.last_step == 3002 and list(file.columns["reward/std"][0])[-2:] == [3001, 3002]


def test_a_torn_last_line_waits_for_its_end(tmp_path):
    directory = new_run(tmp_path)
    write_steps(directory, 1, 2)
    with directory.metrics.open("a") as stream:
        stream.write('{"step": 3, "reward/mean": 7')
        stream.flush()
        file = MetricsFile(directory.metrics)
        file.update()
        assert file.rows == 2
        stream.write('.5, "loss/policy": null}\n')
    assert file.update() and file.rows == 3
    assert file.columns["reward/mean"][1][-1] == 7.5 and "loss/policy" not in file.columns


def test_lines_that_are_no_rows_are_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    deep = "[" * 100_000
    path.write_text(f'{{"step": 1, "x": 1}}\n{{"step": 2, "x"{{"step"\n[1]\n{deep}\n\n'
                    '{"step": "a"}\n{"step": 4, "x": "y"}\n{"step": 5, "x": 2}\n')  # fmt: skip
    file = MetricsFile(path)
    file.update()
    assert list(file.columns["x"][0]) == [1, 5] and file.rows == 3


def test_a_resumed_run_that_drops_its_last_steps_is_read_anew(tmp_path):
    directory = new_run(tmp_path)
    write_steps(directory, 1, 9)
    file = MetricsFile(directory.metrics)
    file.update()
    directory.continue_from(5)
    assert file.update() and file.last_step == 5
    write_steps(directory, 6, 30)
    assert file.update() and list(file.columns["reward/mean"][0]) == list(range(1, 31))


def test_a_file_rewritten_in_place_and_longer_is_read_anew(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "x": 1}\n')
    file = MetricsFile(path)
    file.update()
    path.write_text('{"step": 1, "x": 2}\n{"step": 2, "x": 3}\n')
    assert file.update() and list(file.columns["x"][1]) == [2, 3]
    path.unlink()
    assert file.update() and file.columns == {} and not file.update()


def test_what_a_run_writes_appears(tmp_path):
    view = RunView(new_run(tmp_path))
    view.update()
    assert (view.evaluations, view.groups, view.metrics.rows) == ([], [], 0)
    assert view.status() == "not running: no step is finished"
    write_steps(view.directory, 1, 3)
    write_evaluation(view.directory, 0, [1, 1, 1])
    name = write_group(view.directory, 2, [rollout("x", [True])])
    half = view.directory.path / "rollouts" / "step-000003-00000000.json"
    half.write_text('{"step": 3, "fa')
    for junk in ("[]", '{"step": 1}', '{"step": 1, "rollouts": 3}'):
        (half.parent / f"step-000001-{len(junk):08x}.json").write_text(junk)
    for junk in ("{}", "[1]", '{"step": 3, "scores": 4}', '{"step": 3'):
        (view.directory.path / "evaluations" / f"step-{len(junk):06d}.json").write_text(junk)
    view.update()
    assert [e["step"] for e in view.evaluations] == [0]
    assert [g.name for g in view.groups] == [name] and view.group(name)["page_id"] == PAGES[0]
    half.unlink()
    written = write_group(view.directory, 3, [rollout("x", [True])])
    view.update()
    assert [g.name for g in view.groups] == [written, name]
    assert "not running: step 3 of 40" in view.status()
    with RunLock(view.directory.path):
        assert view.status() == f"running: step 3 of 40 (process {os.getpid()} on " + (
            f"{os.uname().nodename})"
        )
    (view.directory.path / "stopped.txt").write_text("the gap was 0.5\n")
    assert view.status() == "not running: stopped at step 3 of 40: the gap was 0.5"


def test_only_names_that_the_run_wrote_are_opened(tmp_path):
    view = RunView(new_run(tmp_path))
    write_group(view.directory, 2, [rollout("x", [True])])
    view.update()
    for name in ("../config.yaml", "/etc/passwd", "", "step-000002-x.json"):
        assert view.group(name) is None


def test_of_very_many_groups_the_newest_are_looked_at(tmp_path):
    view = RunView(new_run(tmp_path))
    folder = view.directory.path / "rollouts"
    group = {"step": 1, "fate": "ready", "page_id": "p", "image": "", "reference": None}
    text = json.dumps(group | {"rollouts": []})
    for step in range(GROUPS + 20):
        (folder / f"step-{step:06d}-0.json").write_text(text)
    view.update()
    assert len(view.groups) == GROUPS and view.recorded_groups == GROUPS + 20
    assert len(view._known) == GROUPS
    (folder / f"step-{GROUPS + 20:06d}-0.json").write_text(text)
    view.update()
    assert len(view._known) == GROUPS
