"""How these tests run olmrl: the real command lines on the tiny data set and model."""

import contextlib
import importlib
import io
import subprocess
import sys
import time
from pathlib import Path

import psutil

from olmrl.metric_catalogue import unknown
from olmrl.metrics import read_rows

ROOT = Path(__file__).parents[2]
LEARNER = [
    "model.dtype=float32",
    "learner.use_gpu=false",
    "learner.wrap=root",
    "learner.activation_checkpointing=false",
    "learner.token_budget=4096",
    "learner.optimizer.schedule=constant",
    "checkpoint.asynchronous=false",
    "logging.wandb=off",
]


def words_of(overrides, flags=()):
    """The command line after `python -m olmrl.ROOM`."""
    return [*flags, *LEARNER, *map(str, overrides)]


def command(module, *overrides, flags=()):
    return [sys.executable, "-m", module, *words_of(overrides, flags)]


RUN_CPUS = 5
"""Logical ones that a run on the shared head has: about what it takes when it starts its own."""


def run(module, *overrides, flags=(), head=None):
    """Run the command; with `head` on that cluster, else on a Ray of its own."""
    joined = [f"cluster.address={head.address}"] if head else []
    done = subprocess.run(
        command(module, *overrides, *joined, flags=flags),
        capture_output=True, text=True, timeout=900, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    check_metrics(overrides)
    return done.stdout


def check_metrics(overrides):
    """A run writes no metric that the catalogue does not have."""
    (out,) = [str(word)[8:] for word in overrides if str(word).startswith("run.dir=")][-1:] or [""]
    path = Path(out) / "metrics.jsonl"
    names = {name for row in read_rows(path) for name in row} if path.exists() else set()
    assert unknown(names) == set()


def here(module, *arguments):
    """The command in this process, for what ends before Ray starts: exit code, output, errors.

    A process of its own costs 10 CPU seconds of imports.
    """
    main = importlib.import_module(f"{module}.__main__").main
    output, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(ROOT),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        code = main([str(argument) for argument in arguments])
    return code, output.getvalue(), errors.getvalue()


def grpo_overrides(pages, model, out):
    return [
        f"run.dir={out}",
        "run.seed=1",
        f"model.path={model}",
        f"data.train={pages / 'train'}",
        f"data.heldout={pages / 'heldout'}",
        "data.longest_side=168",
        "data.prompt=file:configs/prompts/tiny.txt",
        "data.prefetch_pages=16",
        "rollout.dtype=float32",
        "rollout.enforce_eager=true",
        "rollout.max_model_len=256",
        "rollout.max_num_seqs=64",
        "rollout.kv_cache_gb=0.5",
        "scorer.workers=1",
        "scorer.cpus_per_worker=0.5",
    ]


SFT_PIPELINE = [
    "{name: FrontMatterParser}",
    "{name: PDFRenderer, target_longest_image_dim: 168}",
    "{name: Prompt, prompt: 'file:configs/prompts/tiny.txt'}",
    "{name: FrontMatterOutputFormat}",
    "{name: InstructUserMessages, prompt_first: true}",
    "{name: Tokenizer}",
]


def sft_overrides(pages, model, out, root=None):
    return [
        f"run.dir={out}",
        "run.seed=1",
        f"model.path={model}",
        f"data.train=[{{root: {root or pages / 'sft'}}}]",
        f"data.evaluation=[{{root: {pages / 'sft_heldout'}, name: held}}]",
        f"data.pipeline=[{', '.join(SFT_PIPELINE)}]",
        "data.max_tokens=256",
        "learner.optimizer.lr=2e-3",
    ]


PAGES, EPOCHS, PAGES_PER_STEP = 12, 2, 2
STEPS = PAGES * EPOCHS // PAGES_PER_STEP
GRPO = [
    "rollout.engine=hf",
    "rollout.group_size=4",
    "rollout.sampling={temperature: 1.0, max_tokens: 16}",
    "rewards=[{name: edit_distance, options: {compat: true}}]",
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
        self.log = Path(f"{self.out}.log")
        with self.log.open("w") as stream:
            self.process = subprocess.Popen(
                command(module, *overrides, flags=flags),
                cwd=ROOT,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_for_step(self, step, timeout_s=900):
        path = Path(self.out) / "metrics.jsonl"
        deadline = time.monotonic() + timeout_s
        while not (path.exists() and any(r["step"] >= step for r in read_rows(path))):
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, f"step {step} did not come"
            time.sleep(0.05)

    def processes(self, name=""):
        """The driver's children (its whole local Ray node), or those of a name."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [p for p in children if name in words(p)]

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
            self.process.wait()

    def finish(self, code=0, timeout_s=600):
        assert self.process.wait(timeout_s) == code, self.log.read_text()[-3000:]


def words(process):
    """Its command line; Ray workers put their role there."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _kill(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def trained(out):
    return [(r["step"], r["pages"]) for r in read_rows(Path(out) / "steps.jsonl")]


def series(out, name):
    return [r[name] for r in read_rows(Path(out) / "metrics.jsonl") if name in r]
