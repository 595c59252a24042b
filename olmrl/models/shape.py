"""Sizes of a model, from which memory and operations follow; no weights, no torch.

A family reads them out of a `config.json` (`Family.shape`). Shape letters: h width, I MLP width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from olmrl.config.schema import ModelConfig

Linear = tuple[int, int]
"""(inputs, outputs) of a linear layer."""


@dataclass(frozen=True, slots=True)
class Layers:
    """The linear layers of modules that are all alike."""

    count: int
    """How many modules."""
    stages: tuple[Mapping[str, Linear], ...]
    """Linear layers by name in the order in which they run; those of a stage run side by side."""

    @property
    def matrices(self) -> dict[str, Linear]:
        """All linear layers of one module."""
        return {name: size for stage in self.stages for name, size in stage.items()}

    @property
    def products(self) -> int:
        """Multiply-adds per token in the linear layers of one module."""
        return sum(inputs * outputs for inputs, outputs in self.matrices.values())

    def adapters(self, rank: int, targets: tuple[str, ...]) -> int:
        """Parameters of low-rank adapters in one module: rank x (inputs + outputs) per layer."""
        return rank * sum(sum(size) for name, size in self.matrices.items() if name in targets)


@dataclass(frozen=True, slots=True)
class Blocks(Layers):
    """A stack of transformer blocks that are all alike."""

    width: int
    """h, of the residual stream."""
    inner: int
    """I, of the MLP."""
    queries: int
    """Width of all queries of one token."""
    keys: int
    """Width of all keys (and of all values) of one token."""
    small: int
    """Parameters of a block outside its linear layers' matrices: norms and biases."""
    saved: Mapping[int, float]
    """Bytes per token that the backward pass of a block reads, by bytes of the compute dtype; keys
    and values of other segments come on top."""
    scan: int = 0
    """Multiply-adds per token of a recurrence, which stands in the place of attention."""
    state: int = 0
    """Numbers that the recurrence keeps of a sequence."""

    @property
    def parameters(self) -> int:
        """Parameters of one block."""
        return self.products + self.small


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of one model."""

    vocabulary: int
    tied: bool
    """Embedding and output head are one matrix."""
    language: Blocks
    vision: Blocks
    merger: Layers
    """The projector, per merged token: one merger, or one for each set of image features."""
    merger_small: int
    """Its norms and biases."""
    patch: int
    """Pixels along a patch."""
    frames: int
    """Frames in a patch."""
    merge: int
    """Patches per merged vision token along one side."""
    tower_small: int = 0
    """Parameters of the tower outside its blocks and the patch embedding's matrix."""
    recurrent: Blocks | None = None
    """Blocks of the language model that have a recurrence; `language` are then the others."""
    windowed: int = 0
    """Vision blocks that attend inside windows only."""
    window_patches: float = 0.0
    """Patches in a window."""

    @property
    def hidden(self) -> int:
        """Width of the language model."""
        return self.language.width

    @property
    def stacks(self) -> tuple[Blocks, ...]:
        """The language model's blocks by kind, that of the first block first."""
        return (self.language,) if self.recurrent is None else (self.recurrent, self.language)

    @property
    def layers(self) -> int:
        """Blocks of the language model."""
        return sum(stack.count for stack in self.stacks)

    @property
    def patch_width(self) -> int:
        """Numbers in one patch (channels x frames x height x width)."""
        return 3 * self.frames * self.patch**2

    @property
    def tower_parameters(self) -> int:
        """Parameters of the vision tower without the merger."""
        blocks = self.vision.count * self.vision.parameters
        return self.patch_width * self.vision.width + self.tower_small + blocks

    @property
    def merger_products(self) -> int:
        """Multiply-adds of the projector per merged token."""
        return self.merger.count * self.merger.products

    @property
    def merger_parameters(self) -> int:
        """Parameters between vision tower and language model."""
        return self.merger_products + self.merger_small

    @property
    def language_parameters(self) -> int:
        """Parameters of the language model, embedding and output head."""
        heads = 1 if self.tied else 2
        blocks = sum(stack.count * stack.parameters for stack in self.stacks)
        return heads * self.vocabulary * self.hidden + blocks + self.hidden

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.language_parameters + self.tower_parameters + self.merger_parameters

    def trained(self, model: ModelConfig) -> int:
        """Parameters that get gradients and optimizer state."""
        if model.lora is not None:
            rank, targets = model.lora.rank, model.lora.target_modules
            stacks = (*self.stacks, self.vision, self.merger)
            return sum(stack.count * stack.adapters(rank, targets) for stack in stacks)
        frozen = model.freeze
        return (
            (0 if frozen.language else self.language_parameters)
            + (0 if frozen.vision else self.tower_parameters)
            + (0 if frozen.projector else self.merger_parameters)
        )
