"""What a packed row costs, vision tower included, and how rows are spread over ranks by it.

Costs are the floating-point operations of one forward pass (a multiply-add counts two); a training
step takes about three times that. Only ratios matter for balance; the same figures give MFU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from olmrl.models.shape import ModelShape
from olmrl.types import Int64Array, PackedBatch


@dataclass(frozen=True, slots=True)
class CostModel:
    """Operations per unit of work, forward."""

    token: float
    """Per token in the language model's linear layers."""
    pair: float
    """Per attended (query, key) pair, over all layers."""
    prediction: float
    """Per predicted token in the LM head."""
    embed: float
    """Per image patch in the patch embedding."""
    patch: float
    """Per image patch in the linear layers of the vision blocks."""
    window: float
    """Per image patch in the attention of the vision blocks with windows."""
    merger: float
    """Per image patch in the merger."""
    patch_pair: float
    """Per (patch, patch) pair in the vision blocks with full attention."""
    scan: float = 0.0
    """Per token in the language model's recurrences."""

    @classmethod
    def of(cls, shape: ModelShape) -> CostModel:
        """Operations of a model of this shape: two per multiply-add."""
        language, vision = shape.language, shape.vision
        full = vision.count - shape.windowed
        return cls(
            token=2.0 * sum(stack.count * stack.products for stack in shape.stacks),
            pair=4.0 * language.count * language.queries,
            prediction=2.0 * shape.hidden * shape.vocabulary,
            embed=2.0 * shape.patch_width * vision.width,
            patch=2.0 * vision.count * vision.products,
            window=4.0 * shape.windowed * vision.queries * shape.window_patches,
            merger=2.0 * shape.merger_products / shape.merge**2,
            patch_pair=4.0 * full * vision.queries,
            scan=2.0 * sum(stack.count * stack.scan for stack in shape.stacks),
        )

    @property
    def predicted(self) -> float:
        """Cost of a token and its prediction, without attention."""
        return self.token + self.scan + self.prediction

    def batch(self, batch: PackedBatch) -> float:
        """Cost of a packed row."""
        return self.parts(
            tokens=batch.num_tokens,
            pairs=_attended_pairs(batch),
            predictions=len(batch.targets),
            grid_thw=batch.image_grid_thw,
        )

    def page(self, prompt: int, responses: Sequence[int], grid_thw: Int64Array) -> float:
        """Cost of a page with all its responses behind one prompt; its image runs once.

        Args:
            prompt: tokens of the prompt, image placeholders included.
            responses: tokens of each response.
            grid_thw: [I, 3] patches of its images.
        """
        total = sum(responses)
        own = prompt * (prompt + 1) / 2
        behind = sum(r * (r + 1) / 2 + r * prompt for r in responses)
        return self.parts(prompt + total, own + behind, total, grid_thw)

    def parts(self, tokens: int, pairs: float, predictions: int, grid_thw: Int64Array) -> float:
        """Cost from counts and the [I, 3] patch grid of the images."""
        patches = np.prod(np.asarray(grid_thw, np.float64).reshape(-1, 3), axis=1)
        return float(
            (self.token + self.scan) * tokens
            + self.pair * pairs
            + self.prediction * predictions
            + (self.embed + self.patch + self.window + self.merger) * patches.sum()
            + self.patch_pair * (patches**2).sum()
        )


def _attended_pairs(batch: PackedBatch) -> float:
    """Number of (query, key) pairs that the attention rule of `PackedBatch` admits."""
    lengths = np.bincount(batch.segment_ids).astype(np.float64)
    own = (lengths * (lengths + 1) / 2).sum()
    behind = batch.prefix_ids[batch.prefix_ids >= 0]
    return float(own + lengths[behind].sum())


def balance(costs: Sequence[float], ranks: int) -> list[list[int]]:
    """Spread items over ranks, longest processing time first.

    Args:
        costs: Cost of each item.
        ranks: Number of ranks.

    Returns:
        Item indices per rank, ascending.
    """
    if ranks < 1:
        raise ValueError(f"ranks is {ranks}, must be >= 1")
    loads, members = [0.0] * ranks, [[] for _ in range(ranks)]  # type: ignore[var-annotated]
    for index in sorted(range(len(costs)), key=lambda k: -costs[k]):
        rank = min(range(ranks), key=lambda r: (loads[r], len(members[r])))
        members[rank].append(index)
        loads[rank] += costs[index]
    return [sorted(indices) for indices in members]
