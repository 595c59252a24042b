"""What LearnerWorkers are told: picklable, and importable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from olmrl.config.schema import GrpoConfig, SftConfig
from olmrl.data.encode import EncoderSpec


@dataclass(frozen=True, kw_only=True)
class Task:
    """What every rank needs to know; SFT and GRPO add to it."""

    config: GrpoConfig | SftConfig
    run_dir: str
    encoder: EncoderSpec
    actor: Any
    """The run's actor (`run.actor`)."""
    total_steps: int
    """Steps of the run; a step may hold several optimizer updates."""
