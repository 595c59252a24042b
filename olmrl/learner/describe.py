"""What a learner says when it starts: the choices that no configuration key spells out."""

from __future__ import annotations

from olmrl.learner.attention import describe_kernels
from olmrl.learner.strategy import Strategy
from olmrl.models.files import left_out
from olmrl.models.registry import family_of


def describe(strategy: Strategy) -> list[str]:
    """Kernels in use, those that are missing, and weights that were not loaded; one line each."""
    config = strategy.trained
    lines = [describe_kernels(strategy.kernel, config.attention, strategy.device, config.dtype)]
    lines += family_of(strategy.model_config).remarks(strategy.device.type == "cuda")
    count, size = left_out(config.path)
    if count:
        lines.append(
            f"left out: {count} tensors of the model's files that predict several tokens ahead "
            f"({size / 1e6:,.1f} MB); they are neither trained nor exported"
        )
    return lines
