"""What SFT's LearnerWorkers are told."""

from __future__ import annotations

from dataclasses import dataclass

from olmrl.config.schema import SftConfig
from olmrl.run.task import Task


@dataclass(frozen=True, kw_only=True)
class SftTask(Task):
    """What a rank of `olmrl.sft.worker` needs to know; its actor is the StepFeed."""

    config: SftConfig
    evaluation_sets: tuple[str, ...]
    """Names of the sets; each has a channel `eval/<name>/<step>`."""
    pages_per_epoch: int
