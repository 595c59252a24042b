"""What GRPO's LearnerWorkers are told: picklable, and light enough for processes without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from olmrl.config.schema import GrpoConfig
from olmrl.data.encode import EncoderSpec
from olmrl.data.page import PageSource


@dataclass(frozen=True)
class GrpoTask:
    """What a rank of `olmrl.grpo.worker` needs to know."""

    config: GrpoConfig
    run_dir: str
    sources: dict[str, PageSource]
    """Training pages by id: groups out of a checkpoint read their page again."""
    encoder: EncoderSpec
    buffer: Any
    """RolloutBuffer actor."""
    weights: Any
    """Weight store actor (engines, last publication)."""
    total_steps: int
    evaluate: bool
    """Wait for held-out evaluations."""
