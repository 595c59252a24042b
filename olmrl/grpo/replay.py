"""`python -m olmrl.grpo --replay RUN --step N`: one learner step again, without engines.

Takes the batches that a stopped step (NaN or infinity) or `guards.save_batch_every` left in
`RUN/replay/`, and the newest checkpoint that is not later than the step. Runs in one process on one
device, whatever the run had, and writes nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from olmrl.checkpoint.folder import CheckpointFolder
from olmrl.checkpoint.state import CheckpointStore
from olmrl.config.load import parse_yaml, validate
from olmrl.config.schema import GrpoConfig
from olmrl.data.encode import EncoderSpec
from olmrl.learner.build import build_grpo
from olmrl.learner.replay import load_step
from olmrl.metrics import flatten


def rerun(run_dir: Path, step: int) -> dict[str, float]:
    """Run a saved step and return its measurements.

    Args:
        run_dir: directory of the run.
        step: number of the step, as in the name of the saved file.

    Raises:
        ValueError: no batches of that step were saved (names those that were), or the step is
            not finite this time either.
    """
    path = run_dir / "config.yaml"
    config = validate(GrpoConfig, parse_yaml(path.read_text("utf-8"), str(path)), str(path))
    batches = load_step(f"{run_dir}/replay", step)
    encoder = EncoderSpec(config.model.path, chat=tuple(config.model.chat.items())).build()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    strategy, learner = build_grpo(config, encoder.banned_ids, total_steps=step + 1, device=device)
    folder = CheckpointFolder(run_dir / "checkpoints")
    known = [saved for saved in folder.steps() if saved <= step]
    if known:
        store = CheckpointStore(run_dir / "checkpoints")
        restored = store.load(folder.at(known[-1]), strategy.state_dict())
        strategy.load_state_dict(restored.state)
    weights = f"step {known[-1]}" if known else "model.path"
    sys.stdout.write(
        f"{len(batches)} micro-batches of step {step}, weights of {weights}, on {device}\n"
    )
    return flatten(learner.step(batches, step))
