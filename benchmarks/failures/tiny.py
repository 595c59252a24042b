"""The tiny runs that are made to fail: GRPO and SFT on synthetic pages with a random tiny model."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

EVALUATE_EVERY = 6
PAGES, EPOCHS = 12, 6
STEPS = 36
"""Of either trainer: 12 pages x 6 epochs / 2, and 24 pages x 6 epochs / 4."""

_BOTH = (
    "run.seed=1",
    f"run.epochs={EPOCHS}",
    "model.dtype=float32",
    "learner.use_gpu=false",
    "learner.wrap=root",
    "learner.activation_checkpointing=false",
    "learner.token_budget=4096",
    "learner.max_restarts=50",
    "learner.optimizer.lr=1e-3",
    "learner.optimizer.schedule=linear",
    "checkpoint={every: 2, keep_last: 2, keep_best: 0}",
    "cluster.dashboard=false",
    "logging.wandb=offline",
)
_GRPO = (
    "data.longest_side=168",
    "data.prompt=file:configs/prompts/tiny.txt",
    f"data.max_pages={PAGES}",
    "data.prefetch_pages=16",
    "data.render_cpus=2",  # one task at a time: each new process costs five seconds to import
    "rollout.engine=hf",
    "rollout.dtype=float32",
    "rollout.group_size=4",
    "rollout.max_model_len=256",
    "rollout.max_num_seqs=64",
    "rollout.sampling={temperature: 1.0, max_tokens: 16}",
    "rewards=[{name: edit_distance, options: {compat: true}}]",
    "scorer={workers: 1, cpus_per_worker: 0.5}",
    "algorithm.pages_per_step=2",
    "weight_sync.transport=failures.marking:MarkedStore",
    f"evaluation={{skip_start: true, every: {EVALUATE_EVERY}, max_pages: 1, sampled: false}}",
)
_SFT_STEPS = (
    "{name: FrontMatterParser}",
    "{name: PDFRenderer, target_longest_image_dim: 168}",
    "{name: Prompt, prompt: 'file:configs/prompts/tiny.txt'}",
    "{name: FrontMatterOutputFormat}",
    "{name: InstructUserMessages, prompt_first: true}",
    "{name: Tokenizer}",
)
_SFT = (
    f"data.pipeline=[{', '.join(_SFT_STEPS)}]",
    "data.max_tokens=256",
    "training.pages_per_step=4",
    f"evaluation.every={EVALUATE_EVERY}",
)


@dataclass(frozen=True)
class Recipe:
    """What is trained."""

    trainer: str
    """grpo or sft."""
    staleness: int = 0
    ranks: int = 1

    @property
    def name(self) -> str:
        """Short, for folders and results."""
        stale = f"-k{self.staleness}" if self.trainer == "grpo" else ""
        return f"{self.trainer}{stale}-{self.ranks}"

    @property
    def repeatable(self) -> bool:
        """Whether a run that failed must end with the weights of one that did not."""
        return self.trainer == "sft" or self.staleness == 0

    def command(self, material: Path, out: Path, *more: str) -> list[str]:
        """The command line of the run.

        Args:
            material: from `make_material`.
            out: run directory.
            more: further overrides and flags.
        """
        pages = material / "pages"
        words = [f"run.dir={out}", f"model.path={material / 'model'}", *_BOTH]
        words.append(f"learner.workers={self.ranks}")
        if self.trainer == "sft":
            words += [
                *_SFT,
                f"data.train=[{{root: {pages / 'sft'}}}]",
                f"data.evaluation=[{{root: {pages / 'sft_heldout'}, name: held, limit: 2}}]",
            ]
        else:
            words += [*_GRPO, f"data.train={pages / 'train'}", f"data.heldout={pages / 'heldout'}"]
            words.append(f"algorithm.max_staleness={self.staleness}")
            words.append(f"algorithm.drop_zero_variance={str(self.staleness > 0).lower()}")
        return [sys.executable, "-m", f"olmrl.{self.trainer}", *words, *more]


def make_material(folder: Path) -> None:
    """Pages and model, unless they are there."""
    if (folder / "model" / "config.json").exists():
        return
    # Deferred: only the first call needs torch.
    from olmrl.synth.model import gather_texts, make_model
    from olmrl.synth.pages import write_data_set

    pages = write_data_set(folder / "pages", train=24, heldout=8, sft=24, seed=3, difficulty=1)
    make_model(gather_texts([pages / "sft"]), folder / "model", vocab_size=512)
