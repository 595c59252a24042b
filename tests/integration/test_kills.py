"""Whole runs that are killed at seeded random points and continued (the ledger's promise, live)."""

import contextlib
import random
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from running import ROOT, command, grpo_overrides, run, sft_overrides

from olmrl.checkpoint.folder import CheckpointFolder
from olmrl.metrics import read_rows

PAGES, EPOCHS, PAGES_PER_STEP = 12, 2, 2
STEPS = PAGES * EPOCHS // PAGES_PER_STEP
GRPO = [
    "rollout.engine=hf",
    "rollout.group_size=4",
    "rollout.sampling={temperature: 1.0, max_tokens: 16}",
    "rewards=[{name: edit_distance}]",
    f"data.max_pages={PAGES}",
    f"run.epochs={EPOCHS}",
    f"algorithm.pages_per_step={PAGES_PER_STEP}",
    "algorithm.drop_zero_variance=false",
    "learner.optimizer.lr=1e-3",
    "learner.optimizer.schedule=linear",
    "checkpoint.every=2",
    "evaluation={skip_start: true, max_pages: 1, sampled: false}",
]


class Running:
    """A run in processes of its own, watched through what it writes."""

    def __init__(self, module, overrides, flags=()):
        self.out = next(o for o in map(str, overrides) if o.startswith("run.dir="))[8:]
        self.process = subprocess.Popen(
            command(module, *overrides, flags=flags),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait_for_step(self, step, timeout_s=300):
        path = Path(self.out) / "metrics.jsonl"
        deadline = time.monotonic() + timeout_s
        while not (path.exists() and any(r["step"] >= step for r in read_rows(path))):
            assert self.process.poll() is None, self.process.communicate()[0][-3000:]
            assert time.monotonic() < deadline, f"step {step} did not come"
            time.sleep(0.05)

    def processes(self, name=""):
        """The driver's children (its whole local Ray node), or those of a name."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [p for p in children if name in " ".join(_cmdline(p))]

    def kill(self, what):
        if what == "learner":
            victims = self.processes("RayTrainWorker")
        elif what == "engine":
            victims = self.processes("RolloutWorker")
        elif what == "driver":
            victims = [psutil.Process(self.process.pid)]
        else:
            victims = [*self.processes(), psutil.Process(self.process.pid)]
        assert victims, f"no {what} process"
        everything = self.processes()
        for victim in victims:
            _kill(victim)
        if what in ("driver", "node"):
            # Ray's own processes notice a dead driver; the next run must not meet them.
            psutil.wait_procs(everything, timeout=60)
            for process in everything:
                _kill(process)
            self.process.communicate()

    def finish(self, timeout_s=600):
        text, _ = self.process.communicate(timeout=timeout_s)
        assert self.process.returncode == 0, text[-3000:]


def _cmdline(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _kill(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def trained(out):
    return [(r["step"], r["pages"]) for r in read_rows(Path(out) / "steps.jsonl")]


def series(out, name):
    return [r[name] for r in read_rows(Path(out) / "metrics.jsonl") if name in r]


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


def test_a_killed_grpo_run_equals_an_uninterrupted_one(tiny_pages, tiny_model, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run("olmrl.grpo", *grpo_overrides(tiny_pages, tiny_model, whole), *GRPO)
    overrides = [*grpo_overrides(tiny_pages, tiny_model, killed), *GRPO]
    killed_run("olmrl.grpo", overrides, 1, ["learner", "node"], STEPS)
    assert_epochs_closed_once(killed, EPOCHS, PAGES)
    assert_same_run(
        killed,
        whole,
        ["loss/policy", "reward/mean", "policy/grad_norm", "completion/mean_length", "policy/lr"],
    )
    assert CheckpointFolder(killed / "checkpoints").newest().step == STEPS


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_grpo_survives_a_series_of_kills(tiny_pages, tiny_model, tmp_path, seed):
    """Ahead of the learner and with groups dropped: closed once, whatever died."""
    out = tmp_path / "run"
    overrides = [
        *grpo_overrides(tiny_pages, tiny_model, out),
        *GRPO,
        "algorithm.max_staleness=2",
        "algorithm.drop_zero_variance=true",
        "rewards=[{name: eos}, {name: element_count}]",
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
    assert_same_run(killed, whole, ["loss/sft", "policy/grad_norm", "policy/lr"])
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
    text, _ = running.process.communicate(timeout=120)
    assert running.process.returncode == 143, text[-3000:]
    saved = CheckpointFolder(stopped / "checkpoints").newest().step
    assert 3 <= saved < STEPS and f"saved step {saved}; --resume auto continues the run" in text
    running = Running("olmrl.grpo", overrides, flags=["--resume", "auto"])
    running.finish()
    assert_same_run(stopped, whole, ["loss/policy", "reward/mean", "policy/grad_norm"])
