"""Stage h: whole GRPO runs through Ray, killed and resumed.

Synthetic pages and a tiny model; `rollout.engine=hf`, and vLLM where it is installed, share the
device with the learner. The parity guard compares engine and learner at every step; half-way
the run's driver is killed without warning and the run resumed, and every step must be there once.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from stage import Context

from olmrl.metrics import read_rows
from olmrl.synth.model import gather_texts, make_model
from olmrl.synth.pages import write_data_set

ROOT = Path(__file__).resolve().parents[2]
PROMPT = ROOT / "configs" / "prompts" / "tiny.txt"
KEPT = (
    "time/step",
    "time/learner",
    "time/engine_busy",
    "time/weight_sync",
    "weight_sync/bytes",
    "weight_sync/seconds",
    "reward/mean",
    "parity/mean_gap",
    "parity/max_gap",
    "mismatch/logprob_mean_abs",
    "throughput/mfu",
)


def run(context: Context) -> None:
    """See the module."""
    steps = 4 if context.rehearsal else 10
    with tempfile.TemporaryDirectory(prefix="kit-") as folder:
        work = Path(folder)
        pages = write_data_set(work / "pages", train=2 * steps, heldout=0, sft=0, seed=3)
        model = make_model(gather_texts([pages, PROMPT]), work / "model")
        for engine in ("hf", "vllm"):
            reason = why_not(context, engine)
            if reason:
                context.report(f"engine {engine}", skipped=reason)
                continue
            with context.case(f"engine {engine}", engine=engine, steps=steps) as row:
                killed_and_resumed(context, work, (pages, model), engine, steps, row)


def why_not(context: Context, engine: str) -> str:
    """Why a run with this engine is left out; empty where it is made."""
    if engine == "vllm" and importlib.util.find_spec("vllm") is None:
        return "vllm is not installed"
    if engine == "vllm" and context.rehearsal:
        return "the rehearsal is short; tests/integration run vLLM's CPU build"
    return ""


def overrides(
    context: Context, out: Path, made: tuple[Path, Path], engine: str, steps: int
) -> list[str]:
    """Keys of the run."""
    pages, model = made
    gpu = str(not context.rehearsal).lower()
    return [
        f"run.dir={out}",
        "run.seed=1",
        f"run.steps={steps}",
        f"model.path={model}",
        "model.dtype=float32",
        f"data.train={pages / 'train'}",
        "data.longest_side=168",
        f"data.prompt=file:{PROMPT}",
        f"rollout.engine={engine}",
        "rollout.colocate=true",
        "rollout.gpu_memory_utilization=0.3",
        "rollout.dtype=float32",
        "rollout.enforce_eager=true",
        "rollout.max_model_len=256",
        "rollout.max_num_seqs=64",
        "rollout.group_size=4",
        "rollout.sampling={temperature: 1.0, max_tokens: 16}",
        "rewards=[{name: edit_distance}]",
        "scorer.workers=1",
        "scorer.cpus_per_worker=0.5",
        "algorithm.pages_per_step=2",
        "algorithm.drop_zero_variance=false",
        f"learner.use_gpu={gpu}",
        "learner.wrap=root",
        "learner.token_budget=4096",
        "learner.optimizer={lr: 1.0e-3, schedule: constant}",
        "weight_sync.checksum=true",
        "guards.parity_every=1",
        "checkpoint.every=1",
        "checkpoint.asynchronous=false",
        "evaluation.every=0",
        "logging.wandb=off",
    ]


def killed_and_resumed(
    context: Context,
    work: Path,
    made: tuple[Path, Path],
    engine: str,
    steps: int,
    row: dict[str, Any],
) -> None:
    """Start, kill before half the steps, resume, and see that each step was made once."""
    out = work / f"run-{engine}"
    command = [sys.executable, "-m", "olmrl.grpo"]
    keys = overrides(context, out, made, engine, steps)
    started = time.monotonic()
    first = start([*command, *keys])
    wait_for_step(context, first, out, steps // 4)
    row["to_kill_s"] = round(time.monotonic() - started, 1)
    kill(first)
    row["killed_after"] = made_steps(out)[-1]
    started = time.monotonic()
    second = start([*command, "--resume", "auto", *keys])
    code = second.wait(max(1.0, context.left()))
    row["resumed_s"] = round(time.monotonic() - started, 1)
    rows, every = read_rows(out / "metrics.jsonl"), made_steps(out)
    compared = [r["parity/mean_gap"] for r in rows if "parity/mean_gap" in r]
    row |= {
        "exit_code": code,
        "steps_made": every,
        "parity_max_mean_gap": max(compared, default=None),
        "last_step": {name: rows[-1][name] for name in KEPT if name in rows[-1]},
        "ok": code == 0
        and every == list(range(1, steps + 1))
        and row["killed_after"] < steps
        and len(compared) == steps,
    }


def made_steps(out: Path) -> list[int]:
    """Numbers of the steps in a run's metrics."""
    rows = read_rows(out / "metrics.jsonl")
    return [int(row["step"]) for row in rows if "reward/mean" in row]


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """A run whose output goes to the kit's log."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    print(json.dumps(command), flush=True)
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def wait_for_step(context: Context, process: subprocess.Popen[bytes], out: Path, step: int) -> None:
    """Until the run has written this step.

    Raises:
        RuntimeError: it ended before.
    """
    path = out / "metrics.jsonl"
    while not (path.exists() and any(r["step"] >= step for r in read_rows(path))):
        if process.poll() is not None:
            raise RuntimeError(f"the run ended with {process.returncode}; see the kit's log")
        if context.left() < 1:
            raise RuntimeError(f"step {step} did not come in time")
        time.sleep(0.1)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a driver as a crash does, and wait for Ray's processes to notice."""
    others = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(others, timeout=20)
    for one in alive:
        one.kill()
