"""The failure and soak commands: what they judge is judged right, and plans repeat by seed."""

import asyncio
import gc
import json
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
import chaos
from failures import conditions, judge, kinds, series
from failures.conditions import Condition
from failures.running import TITLES, descendants, titled
from failures.tiny import Recipe
from fuzzing.record import append, recorded
from soaking.scripted import Scripted
from soaking.slopes import slope, theil_sen

PAGES, EPOCHS = 4, 2
PLACES = [(epoch, index) for epoch in range(EPOCHS) for index in range(PAGES)]


def steps(places, size=2):
    rows = [places[i : i + size] for i in range(0, len(places), size)]
    return [
        {"step": n, "pages": [[e, i, f"p{i}"] for e, i in row]} for n, row in enumerate(rows, 1)
    ]


def metrics(last, evaluated=()):
    rows = [{"step": n, "policy/lr": 1.0} for n in range(1, last + 1)]
    rows += [{"step": n, "eval/loss": 1.0} for n in evaluated]
    return sorted(rows, key=lambda row: row["step"])


def test_a_run_that_closed_every_page_once_is_right():
    assert judge.wrong_pages(steps(PLACES), PAGES, EPOCHS, 0) == []
    assert judge.wrong_pages(steps(PLACES[:-2]), PAGES, EPOCHS, dropped=2) == []


@pytest.mark.parametrize(
    ("places", "dropped", "told"),
    [
        (PLACES[:-1], 0, "7 trained + 0 dropped of 8"),
        ([*PLACES, PLACES[0]], 0, r"trained twice: [(0, 0)]"),
        ([*PLACES[:-1], PLACES[0]], 1, r"trained twice: [(0, 0)]"),
        (PLACES, 1, "8 trained + 1 dropped of 8"),
        ([*PLACES[:-1], (2, 0)], 0, "no such place: [(2, 0)]"),
    ],
)
def test_lost_and_repeated_pages_are_told(places, dropped, told):
    assert any(told in line for line in judge.wrong_pages(steps(places), PAGES, EPOCHS, dropped))


def test_rows_of_metrics_must_be_whole():
    made = steps(PLACES)
    assert judge.wrong_rows(made, metrics(4, evaluated=[2, 4]), 2) == []
    missing, twice = metrics(4, [2, 4])[1:], [*metrics(4, [2, 4]), {"step": 4, "policy/lr": 1.0}]
    for rows in (missing, twice):
        assert any("rows of the steps" in line for line in judge.wrong_rows(made, rows, 2))
    assert "evaluated at [2], due at [2, 4]" in judge.wrong_rows(made, metrics(4, [2]), 2)
    assert "metrics.jsonl is out of order" in judge.wrong_rows(made, metrics(4, [2, 4])[::-1], 2)
    assert "steps.jsonl has the steps [2, 3, 4]" in judge.wrong_rows(made[1:], metrics(4), 2)


def test_another_wandb_id_is_told(tmp_path):
    (tmp_path / "wandb_id").write_text("abcd")
    (tmp_path / "wandb" / "offline-run-1-abcd").mkdir(parents=True)
    assert judge.wrong_wandb(tmp_path, "abcd") == judge.wrong_wandb(tmp_path, None) == []
    (tmp_path / "wandb" / "offline-run-2-ffff").mkdir()
    assert judge.wrong_wandb(tmp_path, "1234") == [
        "W&B id was 1234 and is abcd",
        "a W&B run of another id: offline-run-2-ffff",
    ]


def test_dropped_groups_are_those_of_the_newest_checkpoint(tmp_path):
    for step, dropped in ((2, 1), (10, 3)):
        folder = tmp_path / "checkpoints" / f"step-{step}"
        folder.mkdir(parents=True)
        counts = {"dropped/stale": dropped, "dropped/zero_variance": 1, "committed": 9}
        (folder / "extra.json").write_text(json.dumps({"ledger": {"counts": counts}}))
    assert judge.dropped_groups(tmp_path) == 4


@pytest.mark.parametrize("trainer", ["grpo", "sft"])
def test_failures_repeat_by_seed_and_fit_their_run(trainer):
    drawn = [
        kinds.draw(random.Random(seed), trainer, 8, 24, kinds.KINDS, joined=seed % 2 == 0)
        for seed in range(40)
    ]
    again = kinds.draw(random.Random(3), trainer, 8, 24, kinds.KINDS, joined=False)
    assert drawn[3] == again != drawn[5]
    for seed, plan in enumerate(drawn):
        assert [f.step for f in plan] == sorted(f.step for f in plan)
        roles = {f.role for f in plan}
        assert not (seed % 2 == 0 and roles & {"raylet", "gcs"})
        assert not (seed % 2 and "waiting" in {f.kind for f in plan})
        assert [f.moment == "start" for f in plan] == [True] * 2 + [False] * 6
        if trainer == "sft":
            assert not roles & {"engine", "scorer", "store"}
            assert "sync" not in {f.moment for f in plan}
    seen = {(f.role, f.moment) for plan in drawn for f in plan}
    assert {"driver", "learner", "data", "raylet"} <= {role for role, _ in seen}
    assert {"start", "step", "save", "evaluation", "export"} <= {moment for _, moment in seen}


def test_only_kinds_that_were_asked_for_are_drawn():
    plan = kinds.draw(random.Random(1), "grpo", 8, 24, ["term"], joined=False)
    assert {f.kind for f in plan} == {"term"}


def test_a_slope_and_its_interval():
    rng = np.random.default_rng(0)
    x = np.arange(120.0)
    noise = np.convolve(rng.normal(size=130), np.ones(8) / 8, "valid")[:120]
    flat, rising = slope(x, 100 + noise), slope(x, 100 + 0.2 * x + noise)
    assert flat.is_flat and flat.low <= 0 <= flat.high
    assert not rising.is_flat and rising.low < 0.2 < rising.high
    assert theil_sen(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 100.0])) == 49.5
    with pytest.raises(ValueError, match="11 samples"):
        slope(x[:11], x[:11])


def test_a_step_at_the_start_does_not_count_as_growth():
    y = np.full(100, 50.0)
    y[:3] = 10.0
    assert slope(np.arange(100.0), y).value == 0.0


def test_recipes_say_whether_they_must_repeat():
    assert Recipe("grpo").repeatable and Recipe("sft", ranks=2).repeatable
    assert not Recipe("grpo", staleness=2).repeatable
    assert len({Recipe("grpo", 0).name, Recipe("grpo", 2).name, Recipe("sft").name}) == 3


@pytest.mark.parametrize("condition", kinds.OF_CONDITIONS)
def test_a_third_of_the_failures_at_work_are_of_the_condition(condition):
    own = kinds.OF_CONDITIONS[condition]
    plans = [
        kinds.draw(random.Random(seed), "sft", 6, 24, kinds.KINDS, True, condition)
        for seed in range(20)
    ]
    found = sum((failure.role, failure.kind) == own for plan in plans for failure in plan)
    assert 20 < found < 50


def test_what_cannot_be_made_here_is_named_and_not_passed(monkeypatch):
    number = chaos.PLACES.index(conditions.SlowDisk)
    monkeypatch.setattr(conditions, "possible", lambda kind: "no loop device here")
    chosen, not_made = chaos.choose(number)
    assert (chosen, not_made) == (Condition, {"slow disk": "no loop device here"})
    monkeypatch.setattr(conditions, "possible", lambda kind: "")
    assert chaos.choose(number) == (conditions.SlowDisk, {})


def test_a_failure_of_a_start_that_is_over_strikes_the_run_at_work():
    waiting = kinds.Failure("driver", "waiting", "start", 0)
    assert series.fitting(waiting, 0.5) == waiting
    assert series.fitting(waiting, 30.0) == kinds.Failure("driver", "interrupt", "step", 0)
    kill = kinds.Failure("gcs", "kill", "start", 0)
    assert series.fitting(kill, 30.0) == kinds.Failure("gcs", "kill", "step", 0)


@pytest.mark.parametrize(
    ("role", "kind", "outcome", "wrong"),
    [
        ("driver", "term", "ended 143", False),
        ("driver", "term", "ended 15", True),
        ("driver", "interrupt", "ended 1", True),
        ("driver", "interrupt_group", "ended 130", False),
        ("driver", "kill", "ended -9", False),
        ("driver", "term", "stuck", False),  # told by another rule
        ("engine", "term", "ended 1", False),
    ],
)
def test_a_driver_that_is_asked_to_end_gives_the_code_of_the_signal(role, kind, outcome, wrong):
    failure = kinds.Failure(role, kind, "start", 0)
    assert bool(series.wrong_end(failure, outcome, "olmrl.grpo: SIGTERM: saved")) == wrong


def test_a_traceback_of_the_program_is_wrong_and_one_before_any_program_is_not():
    failure = kinds.Failure("driver", "interrupt", "start", 0)
    trace = "Traceback (most recent call last):\n  File ...\nKeyboardInterrupt"
    assert series.wrong_end(failure, "ended 130", trace) == [
        "driver interrupt at start: a traceback on the console"
    ]
    before = f"Fatal Python error: init_import_site: Failed to import the site module\n{trace}"
    assert series.wrong_end(failure, "ended 1", before) == []


def test_a_lock_is_held_by_one(tmp_path):
    path = tmp_path / "lock"
    with series.locked(path) as first, series.locked(path, wait=False) as second:
        assert first and not second
    with series.locked(path, wait=False) as again:
        assert again


def test_rows_of_two_writers_are_both_kept(tmp_path):
    results = tmp_path / "rows.json"
    assert recorded(results) == []
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: append(results, {"series": n}), range(40)))
    assert sorted(row["series"] for row in recorded(results)) == list(range(40))


def test_scripted_steps_leave_nothing_behind_in_the_event_loop(tmp_path):
    """The soak measures the product, not timeouts that its own loop never came to forget."""
    left = []

    async def steps():
        scripted = Scripted(tmp_path / "run", seed=1)
        for made in (20, 60):
            assert await scripted.run(made, time.monotonic() + 100, print) == made
            left.append(sum(isinstance(one, asyncio.Handle) for one in gc.get_objects()))

    asyncio.run(steps())
    assert left[1] <= left[0] + 5


PRETENDED = Path(__file__).parents[2] / "support" / "pretended_run.py"


class Pretended(Recipe):
    """A recipe without Ray or a model."""

    def command(self, material, out, *more):
        return [sys.executable, str(PRETENDED), str(out), self.mode]


def pretended(monkeypatch, tmp_path, planned, mode="careful"):
    """A series of a pretended run, with its reference; `planned` is (role, kind, moment, step)."""
    kind = type("Mode", (Pretended,), {"mode": mode})
    monkeypatch.setattr(series, "RECIPES", (kind("grpo"),))
    made = [kinds.Failure(*one) for one in planned]
    monkeypatch.setattr(kinds, "draw", lambda *_: made)
    return series.Series(1, 0, tmp_path, kinds.KINDS, len(made), Condition)


PLAN = [
    ("driver", "kill", "step", 3),
    ("driver", "freeze_kill", "save", 7),
    ("driver", "kill", "evaluation", 11),
    ("driver", "term", "step", 16),
    ("driver", "freeze", "step", 19),
]


def test_a_run_that_survives_its_failures_is_judged_clean(monkeypatch, tmp_path):
    monkeypatch.setattr(kinds, "LONGEST_FREEZE_S", 1.1)
    one = pretended(monkeypatch, tmp_path, PLAN)
    assert one.run(time.monotonic() + 100)
    row = one.row()
    assert row["faults"] == []
    ends = [failure["outcome"] for failure in row["failures"]]
    assert ends[0] == "ended -9"
    assert set(ends) <= {"ended -9", "ended 143", "ended -15", "ended 0", "went on"}
    again = [end for end in ends if end not in ("went on", "ended 0")]
    assert (row["starts"], row["suspended"]) == (1 + len(again), 0)


def test_a_run_that_repeats_what_it_did_is_found_out(monkeypatch, tmp_path):
    one = pretended(monkeypatch, tmp_path, [("driver", "kill", "step", 3)], mode="forgetful")
    assert one.run(time.monotonic() + 100)
    faults = " ".join(one.row()["faults"])
    assert "trained twice" in faults and "metrics.jsonl has rows of the steps" in faults


def test_a_series_that_is_not_over_goes_on_in_the_next_call(monkeypatch, tmp_path):
    plan = [("driver", "kill", "step", 2)]
    one = pretended(monkeypatch, tmp_path, plan)
    assert not one.run(time.monotonic())
    assert one.row()["starts"] == 0
    assert not one.run(time.monotonic() + 0.5)
    one.close()
    again = pretended(monkeypatch, tmp_path, plan)
    assert again.run(time.monotonic() + 100)
    row = again.row()
    assert (row["faults"], row["suspended"]) == ([], 1)
    assert [failure["outcome"] for failure in row["failures"]] == ["ended -9"]


def test_a_child_that_a_process_has_just_forked_is_not_struck_for_it():
    code = "import os, time; os.fork(); print(flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, "/raylet/raylet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as forked:
        assert forked.stdout is not None
        for _ in range(2):
            forked.stdout.readline()
        both = descendants(forked.pid)
        assert len(both) == 2
        assert [p.pid for p in titled(both, TITLES["raylet"])] == [forked.pid]
        for process in both:
            process.kill()
