"""How these tests run olmrl: the real command lines on the tiny data set and model."""

import subprocess
import sys
from pathlib import Path

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


def command(module, *overrides, flags=()):
    return [sys.executable, "-m", module, *flags, *LEARNER, *map(str, overrides)]


def run(*arguments, **keywords):
    done = subprocess.run(
        command(*arguments, **keywords), capture_output=True, text=True, timeout=900, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


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
