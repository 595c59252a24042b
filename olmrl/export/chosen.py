"""Which checkpoint of a run is meant, by its configuration and scores. Needs no torch."""

from __future__ import annotations

import os
from typing import Any, Literal

from olmrl import storage
from olmrl.checkpoint.folder import CheckpointFolder
from olmrl.checkpoint.manifest import Checkpoint, CheckpointError
from olmrl.config.load import parse_yaml
from olmrl.config.schema import SftEvaluationConfig

CHECKPOINTS = "checkpoints"
CONFIG = "config.yaml"
EXPORTED = "exported"
"""Folder of a run with checkpoints that were written as models."""


def run_config(run_dir: str) -> dict[str, Any]:
    """Read the resolved configuration of a run directory.

    Raises:
        CheckpointError: not a run directory.
    """
    path = storage.join(run_dir, CONFIG)
    if not storage.exists(path):
        raise CheckpointError(f"{run_dir}: not a run directory (no {CONFIG})")
    config = parse_yaml(storage.read_text(path), path)
    if not isinstance(config.get("model"), dict) or "path" not in config["model"]:
        raise CheckpointError(f"{path}: has no model.path")
    if not isinstance(config["model"]["path"], str):
        raise CheckpointError(f"{path}: model.path is {config['model']['path']!r}, must be text")
    return config


def check_checkpoint(model: str, which: object) -> bool:
    """Whether a model is a run, of which a checkpoint may be asked for.

    Args:
        model: run directory, model folder or name on the Hub.
        which: the checkpoint; None: none is asked for.

    Raises:
        ValueError: one is asked for of what is no run.
    """
    is_place = storage.is_remote(model) or os.path.isdir(model)
    is_run = is_place and storage.exists(storage.join(model, CONFIG))
    if which is not None and not is_run:
        raise ValueError(f"--checkpoint: {model} is not a run directory (no {CONFIG})")
    return is_run


def best_mode(config: dict[str, Any]) -> Literal["min", "max"]:
    """Whether a run's best checkpoint has the smallest or the largest score.

    Args:
        config: resolved configuration of an SFT run, or of a GRPO run, whose scores are rewards.
    """
    evaluation = config.get("evaluation", {})
    if "best_metric" not in evaluation:
        return "max"
    return SftEvaluationConfig(
        best_metric=evaluation["best_metric"], best_mode=evaluation["best_mode"]
    ).mode


def choose(run_dir: str, step: int | None = None, best: bool = False) -> Checkpoint:
    """Open the checkpoint of a step, the best one, or the newest.

    Raises:
        CheckpointError: there is none.
    """
    store = CheckpointFolder(
        storage.join(run_dir, CHECKPOINTS), best_mode=best_mode(run_config(run_dir))
    )
    if step is not None:
        return store.at(step)
    found = store.best() if best else store.newest()
    if found is None:
        which = "scored" if best else "complete"
        raise CheckpointError(f"{run_dir}: no {which} checkpoint below {CHECKPOINTS}/")
    return found
