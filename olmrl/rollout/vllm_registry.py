"""vLLM's look at a model's class, without a process of its own.

To leave CUDA alone vLLM inspects a class in another process, which imports all of vLLM for it while
the engine waits: 18 seconds of CPU at the first start on a machine (vLLM keeps what it found). An
engine on a CPU imports the class anyway, and may as well look at it itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from vllm import ModelRegistry


def inspect_here(architectures: Iterable[str]) -> None:
    """Load the classes of these architectures in this process, as far as vLLM has them."""
    for name in architectures:
        listed = ModelRegistry.models.get(name)
        if listed is not None:
            ModelRegistry.register_model(name, listed.load_model_cls())
