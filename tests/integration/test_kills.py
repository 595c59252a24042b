"""Whole runs that are killed at seeded random points and continued (the ledger's promise, live)."""

import os
import random
import signal
import time

import pytest
from running import (
    EPOCHS,
    GRPO,
    PAGES,
    RUN_CPUS,
    STEPS,
    Running,
    grpo_overrides,
    run,
    series,
    sft_overrides,
    trained,
)

from olmrl.checkpoint.folder import CheckpointFolder
from olmrl.metrics import read_rows


def assert_same_run(out, expected, names):
    assert trained(out) == trained(expected)
    for name in names:
        assert series(out, name) == pytest.approx(series(expected, name), rel=1e-5, abs=1e-7), name


def assert_epochs_closed_once(out, epochs, pages):
    places = [(epoch, index) for _, row in trained(out) for epoch, index, _ in row]
    assert sorted(places) == [(e, i) for e in range(epochs) for i in range(pages)]


def killed_run(module, overrides, seed, victims, last_step):
    """Run to the end, killing each victim at a random step."""
    rng = random.Random(seed)
    steps = sorted(rng.sample(range(1, last_step), len(victims)))
    running = Running(module, overrides)
    for step, victim in zip(steps, victims, strict=True):
        running.wait_for_step(step)
        time.sleep(rng.random() * 0.5)
        running.kill(victim)
        if victim in ("driver", "node"):
            running = Running(module, overrides, flags=["--resume", "auto"])
    running.finish()


def test_a_killed_grpo_run_equals_an_uninterrupted_one(
    tiny_pages, tiny_model, tmp_path, ray_head, ray_job
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    pages, steps = PAGES // 2, STEPS // 2
    few = f"data.max_pages={pages}"
    with ray_job(cpus=RUN_CPUS):
        overrides = grpo_overrides(tiny_pages, tiny_model, whole)
        run("olmrl.grpo", *overrides, *GRPO, few, head=ray_head)
    overrides = [*grpo_overrides(tiny_pages, tiny_model, killed), *GRPO, few]
    killed_run("olmrl.grpo", overrides, 1, ["learner", "node"], steps)
    assert_epochs_closed_once(killed, EPOCHS, pages)
    assert_same_run(
        killed,
        whole,
        ["loss/policy", "reward/mean", "policy/grad_norm", "completion/mean_length", "policy/lr"],
    )
    assert CheckpointFolder(killed / "checkpoints").newest().step == steps
    # one engine of each of the two drivers: the learner's death cost none
    events = [row["event"] for row in read_rows(killed / "logs" / "driver-0.jsonl")]
    assert events.count("engine ready") == 2 and "engine lost" not in events


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_grpo_survives_a_series_of_kills(tiny_pages, tiny_model, tmp_path, seed):
    """Rollouts run ahead of the learner and groups may be dropped: each is closed once."""
    out = tmp_path / "run"
    overrides = [
        *grpo_overrides(tiny_pages, tiny_model, out),
        *GRPO,
        "algorithm.max_staleness=2",
        "algorithm.drop_zero_variance=true",
    ]
    victims = ["learner", "driver", "engine", "node", "learner"]
    random.Random(seed).shuffle(victims)
    killed_run("olmrl.grpo", overrides, seed, victims[:3], STEPS // 2)
    places = [(epoch, index) for _, row in trained(out) for epoch, index, _ in row]
    assert len(places) == len(set(places))
    counts = CheckpointFolder(out / "checkpoints").newest().extra()["ledger"]["counts"]
    dropped = sum(count for name, count in counts.items() if name.startswith("dropped/"))
    assert counts["committed"] == len(places)
    assert counts["committed"] + dropped == PAGES * EPOCHS


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_sft_run_equals_an_uninterrupted_one(tiny_pages, tiny_model, tmp_path, seed):
    settings = [f"run.epochs={EPOCHS}", "training.pages_per_step=4", "checkpoint.every=2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run("olmrl.sft", *sft_overrides(tiny_pages, tiny_model, whole), *settings)
    overrides = [*sft_overrides(tiny_pages, tiny_model, killed), *settings]
    steps = len(trained(whole))
    killed_run("olmrl.sft", overrides, seed, ["learner", "driver", "node"], steps)
    names = ["loss/sft", "policy/grad_norm", "policy/lr", "data/pages_kept"]
    assert_same_run(killed, whole, names)
    pages = len(list((tiny_pages / "sft").rglob("*.pdf")))
    assert_epochs_closed_once(killed, EPOCHS, pages)


@pytest.mark.slow
def test_a_preempted_run_saves_and_goes_on(tiny_pages, tiny_model, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run("olmrl.grpo", *grpo_overrides(tiny_pages, tiny_model, whole), *GRPO)
    overrides = [*grpo_overrides(tiny_pages, tiny_model, stopped), *GRPO, "checkpoint.every=0"]
    running = Running("olmrl.grpo", overrides)
    running.wait_for_step(3)
    running.process.terminate()
    running.finish(code=143)
    text = running.log.read_text()
    saved = CheckpointFolder(stopped / "checkpoints").newest().step
    assert 3 <= saved < STEPS and f"saved step {saved}; --resume auto continues the run" in text
    running = Running("olmrl.grpo", overrides, flags=["--resume", "auto"])
    running.finish()
    assert_same_run(stopped, whole, ["loss/policy", "reward/mean", "policy/grad_norm"])


@pytest.mark.slow
def test_engines_that_sleep_while_the_learner_works_change_nothing(
    tiny_pages, tiny_model, tmp_path
):
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    run("olmrl.grpo", *grpo_overrides(tiny_pages, tiny_model, whole), *GRPO)
    overrides = grpo_overrides(tiny_pages, tiny_model, shared)
    run("olmrl.grpo", *overrides, *GRPO, "rollout.colocate=true")
    assert_same_run(shared, whole, ["loss/policy", "reward/mean", "policy/grad_norm"])
    events = (shared / "logs" / "driver-0.jsonl").read_text()
    assert events.count("engines sleep") == events.count("engines wake") == STEPS


@pytest.mark.slow
def test_a_signal_to_the_whole_group_ends_the_run_and_it_resumes(tiny_pages, tiny_model, tmp_path):
    """Ray's processes get it too, so nothing can be saved: the run must not wait for them."""
    overrides = sft_overrides(tiny_pages, tiny_model, tmp_path / "run")
    running = Running("olmrl.sft", [*overrides, "run.epochs=100"])
    running.wait_for_step(1)
    os.killpg(running.process.pid, signal.SIGTERM)
    running.finish(143, timeout_s=60)
    assert "--resume auto continues" in running.log.read_text()
