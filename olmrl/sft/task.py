"""What SFT's LearnerWorkers are told: picklable, and light enough for processes without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from olmrl.config.schema import SftConfig
from olmrl.data.encode import EncoderSpec


@dataclass(frozen=True)
class SftTask:
    """What a rank of `olmrl.sft.worker` needs to know."""

    config: SftConfig
    run_dir: str
    encoder: EncoderSpec
    feed: Any
    """StepFeed actor."""
    evaluation_sets: tuple[str, ...]
    """Names; each has a channel `eval/<name>/<step>`."""
    pages_per_epoch: int
    total_steps: int
