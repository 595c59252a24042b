"""The measuring kit: its rehearsal, and what it does where it cannot do its work."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[3]
KIT = ROOT / "benchmarks" / "gpu"
sys.path.insert(0, str(KIT))
import kit  # noqa: E402

QUICK = """
    context.report("quick", memory=context.memory)
    with context.case("also quick"):
        pass
"""
SLOW = (
    QUICK
    + """
    import subprocess, time
    context.report("child", pid=subprocess.Popen(["sleep", "600"]).pid)
    time.sleep(600)
"""
)
WRONG = (
    QUICK
    + """
    with context.case("raises"):
        raise ValueError("not as it must be")
"""
)
SMALL = """
    from stage import Unsuited
    raise Unsuited("the card is too small")
"""


def results(folder):
    return json.loads((folder / "kit.json").read_text())


@pytest.fixture
def stage(monkeypatch, tmp_path):
    """Gives the kit one stage alone, with this body; gives the file that it adds a line to."""
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.syspath_prepend(tmp_path)

    def made(body):
        name, ran = f"stage_{tmp_path.name}", tmp_path / "ran"
        begin = f"def run(context):\n    open({str(ran)!r}, 'a').write('run\\n')\n"
        (tmp_path / f"{name}.py").write_text(begin + body)
        monkeypatch.setattr(kit, "STAGES", {"a": kit.Stage(name, "a stage of the tests", 1, ())})
        return ran

    return made


def rehearse(folder, *words):
    """Run the kit as people do, in a process of its own."""
    command = [sys.executable, str(KIT / "kit.py"), "--rehearse", "--out", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory):
    """All stages but the whole run, which has a test of its own."""
    folder = tmp_path_factory.mktemp("kit")
    done = rehearse(folder, "--stages", "a,b,c,d,e,f,g", "--budget-s", "900")
    log = folder / "kit.log"
    assert done.returncode == 0, done.stdout + done.stderr + log.read_text()[-3000:]
    return results(folder)


def rows(found, key):
    return {row["case"]: row for row in found["stages"][key]["rows"]}


def test_every_stage_is_rehearsed(rehearsal):
    assert {s["status"] for s in rehearsal["stages"].values()} == {"done"}
    assert list(rehearsal["stages"]) == list("abcdefg")
    assert rehearsal["device"] == "cpu" and "mean nothing" in rehearsal["kind"]


def test_kernels_are_compared_at_every_width_and_layout(rehearsal):
    compared = [row for row in rows(rehearsal, "a").values() if "errors" in row]
    assert {row["width"] for row in compared} == {64, 80, 128, 256}
    assert {row["kernel"] for row in compared} == {"sdpa", "flex", "windows"}
    exact = [row for row in compared if row["dtype"] == "float32"]
    assert max(max(row["errors"].values()) for row in exact) < 1e-5
    with_gradients = [row for row in compared if row["kernel"] == "sdpa"]
    assert all(len(row["errors"]) == 4 for row in with_gradients)
    assert len(rows(rehearsal, "a")["recompiles"]["seconds"]) == 12


def test_every_registered_family_is_compared(rehearsal):
    from olmrl.models.registry import FAMILIES

    found = rows(rehearsal, "b").values()
    assert {row["family"] for row in found} == set(FAMILIES)
    assert len(found) == sum(3 + family.is_recurrent for family in FAMILIES.values())
    for row in found:
        # the gradient of a random recurrence's decay is a small difference of large terms
        bound = 1e-3 if FAMILIES[row["family"]].is_recurrent else 1e-4
        assert row["dtype"] != "float32" or row["gradient_max_error"] < bound, row


def test_the_learner_stage_shows_its_arithmetic(rehearsal):
    found = rows(rehearsal, "c")
    once, dense = found["R=12, page-once"], found["R=12, dense"]
    assert (once["tokens"], dense["tokens"]) == (40 + 4 * 12, 4 * (40 + 12))
    assert once["unique_tflop"] == dense["unique_tflop"] == once["tflop"] < dense["tflop"]
    assert once["mfu_unique_tokens"] is None and "no peak is known" in once["mfu_of"]
    parts = once["parts_s"]
    assert sum(s for name, s in parts.items() if name != "all") == pytest.approx(
        parts["all"], abs=1e-4
    )
    assert all(parts[name] > 0 for name in ("tower", "linear", "attention_and_norms", "optimizer"))
    # 4 x (40 + 12) / (40 + 4 x 12)
    both = found["R=12, dense over page-once"]
    assert both["bound"] == pytest.approx(208 / 88, abs=1e-3)
    assert both["step_gain"] == pytest.approx(dense["step_s"] / once["step_s"], rel=0.02)
    assert both["linear_share"] > 0
    assert "full depth" in found["projection to full depth"]["arithmetic"]
    assert once["kernels"]


def test_weights_arrive_in_a_second_process(rehearsal):
    found = rows(rehearsal, "g")
    assert found["to a second process"]["wrong_checksums"] == 0
    assert found["gather, cast"]["bytes"] * 2 == found["gather"]["bytes"]


def test_a_whole_run_is_killed_and_resumed(tmp_path, monkeypatch, ray_head):
    monkeypatch.setenv("RAY_ADDRESS", ray_head.address)
    done = rehearse(tmp_path, "--stages", "h", "--budget-s", "900")
    assert done.returncode == 0, done.stdout + (tmp_path / "kit.log").read_text()[-3000:]
    found = rows(results(tmp_path), "h")
    assert found["engine hf"]["steps_made"] == list(range(1, 5))
    assert found["engine hf"]["parity_max_mean_gap"] < 1e-4
    assert "skipped" in found["engine vllm"]


def test_a_card_that_is_too_small_gets_fewer_layers_or_none():
    from shapes import deepest, sizes
    from stage import Context, Unsuited

    def weights(shape):
        return 4.0 * shape.parameters

    context = Context("cpu", 2.0**30, time.monotonic(), lambda row: None)
    wanted = sizes(context)
    one, all_of_it = (weights(wanted.shape(layers)) for layers in (1, wanted.layers))
    assert deepest(context, wanted, weights)[0] == wanted.layers
    context.memory = all_of_it - 1
    layers, said = deepest(context, wanted, weights)
    assert layers == 1 and said.startswith("1 of 2 layers, shrunk by the plan: they need")
    context.memory = one - 1
    with pytest.raises(Unsuited, match="too small: by the plan one layer needs"):
        deepest(context, wanted, weights)


def test_a_stage_that_does_not_suit_the_card_is_left_out(stage, tmp_path):
    stage(SMALL)
    assert kit.main(["--rehearse", "--out", str(tmp_path / "out")]) == 0
    found = results(tmp_path / "out")["stages"]["a"]
    assert found["status"] == "skipped" and found["why"] == "the card is too small"


def test_what_is_done_is_on_disk_when_time_runs_out(stage, tmp_path, capsys):
    stage(SLOW)
    assert kit.main(["--rehearse", "--out", str(tmp_path / "out"), "--budget-s", "8"]) == 3
    found = results(tmp_path / "out")["stages"]["a"]
    assert found["status"] == "out of time" and "rows so far are kept" in found["why"]
    assert [row["case"] for row in found["rows"]] == ["quick", "also quick", "child"]
    child = found["rows"][-1]["pid"]
    deadline = time.monotonic() + 20
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "what the stage started still runs"
        time.sleep(0.1)
    assert "out of time: a" in capsys.readouterr().out


def test_a_stage_that_is_done_is_not_run_again(stage, tmp_path, capsys):
    file = stage(QUICK)
    words = ["--rehearse", "--out", str(tmp_path / "out"), "--memory-gib", "0.5"]
    assert kit.main(words) == kit.main(words) == 0
    assert file.read_text() == "run\n"
    assert "done before" in capsys.readouterr().out
    first, _ = results(tmp_path / "out")["stages"]["a"]["rows"]
    assert first == {"case": "quick", "memory": 0.5 * 2**30}


def test_a_case_that_is_wrong_fails_the_stage_and_keeps_its_error(stage, tmp_path):
    stage(WRONG)
    assert kit.main(["--rehearse", "--out", str(tmp_path / "out")]) == 1
    found = results(tmp_path / "out")["stages"]["a"]
    assert found["status"] == "failed" and "raises" in found["why"]
    assert found["rows"][-1]["error"] == "ValueError: not as it must be"


def test_too_little_time_begins_nothing(stage, tmp_path):
    file = stage(QUICK)
    assert kit.main(["--rehearse", "--out", str(tmp_path / "out"), "--budget-s", "1"]) == 3
    assert results(tmp_path / "out")["stages"]["a"]["status"] == "not begun"
    assert not file.exists()


def test_a_missing_package_leaves_its_stage_out_and_is_named(monkeypatch, stage, tmp_path):
    stage(QUICK)
    lacking = kit.Stage("stage_of_tests", "another", 1, ("json", "no_such_package"))
    monkeypatch.setattr(kit, "STAGES", {**kit.STAGES, "b": lacking})
    assert kit.main(["--rehearse", "--out", str(tmp_path / "out")]) == 0
    found = results(tmp_path / "out")["stages"]
    assert found["a"]["status"] == "done"
    assert found["b"]["status"] == "skipped" and found["b"]["missing"] == ["no_such_package"]


def test_the_packages_that_stages_need_have_these_names():
    names = {name for one in kit.STAGES.values() for name in one.needs}
    assert [name for name in sorted(names) if importlib.util.find_spec(name) is None] == []


def test_without_a_gpu_it_says_so_and_ends(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert kit.main(["--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error == (
        "kit.py: torch finds no GPU here; --rehearse runs every stage on the CPU, tiny\n"
    )
    assert not (tmp_path / "out").exists()


def test_an_unknown_stage_is_refused_with_those_there_are(tmp_path, capsys):
    assert kit.main(["--rehearse", "--out", str(tmp_path), "--stages", "a,x"]) == 2
    assert "no stage x; there are a (the machine" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert kit.main(["--rehearse", "--out", str(tmp_path / "file" / "out")]) == 2
    assert "cannot be written (Not a directory)" in capsys.readouterr().err


def test_results_of_another_device_are_not_mixed(tmp_path, capsys):
    known = {"device": "cuda", "card": "NVIDIA H100", "stages": {}}
    (tmp_path / "kit.json").write_text(json.dumps(known))
    assert kit.main(["--rehearse", "--out", str(tmp_path)]) == 2
    assert "holds results of NVIDIA H100, this is cpu" in capsys.readouterr().err
