"""What GRPO's LearnerWorkers are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from olmrl.config.schema import GrpoConfig
from olmrl.data.page import PageSource
from olmrl.run.task import Task


@dataclass(frozen=True, kw_only=True)
class GrpoTask(Task):
    """What a rank of `olmrl.grpo.worker` needs to know; its actor is the RolloutBuffer."""

    config: GrpoConfig
    sources: dict[str, PageSource]
    """Training pages by id: groups from a checkpoint read their page again."""
    weights: Any
    """Weight store actor (engines, last publication)."""
    evaluate: bool
    """Whether the learner waits for held-out evaluations."""
