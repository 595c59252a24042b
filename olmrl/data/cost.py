"""What a packed row costs, vision tower included, and how rows are spread over ranks by it.

Costs are the floating-point operations of one forward pass (a multiply-add counts two); a training
step takes about three times that. Only ratios matter for balance; the same figures give MFU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    patch: float
    """Per image patch in the vision tower and merger, window attention included."""
    patch_pair: float
    """Per (patch, patch) pair in the vision blocks with full attention."""

    @classmethod
    def from_config(cls, config: Any) -> CostModel:
        """Read the shape of a Qwen2.5-VL-class model from its transformers config."""
        text, vision = config.text_config, config.vision_config
        hidden, layers = text.hidden_size, text.num_hidden_layers
        head = getattr(text, "head_dim", None) or hidden // text.num_attention_heads
        queries, keys = text.num_attention_heads * head, text.num_key_value_heads * head
        layer = hidden * (2 * queries + 2 * keys) + 3 * hidden * text.intermediate_size
        patch, full_blocks = _vision_weights(vision)
        return cls(
            token=2.0 * layers * layer,
            pair=4.0 * layers * queries,
            prediction=2.0 * hidden * text.vocab_size,
            patch=patch,
            patch_pair=4.0 * full_blocks * _width(vision),
        )

    def batch(self, batch: PackedBatch) -> float:
        """Cost of a packed row."""
        return self.parts(
            tokens=batch.num_tokens,
            pairs=_attended_pairs(batch),
            predictions=len(batch.targets),
            grid_thw=batch.image_grid_thw,
        )

    def sequence(self, prompt: int, response: int, grid_thw: Int64Array) -> float:
        """Cost of one page with one response, dense."""
        total = prompt + response
        return self.parts(total, total * (total + 1) / 2, response, grid_thw)

    def parts(self, tokens: int, pairs: float, predictions: int, grid_thw: Int64Array) -> float:
        """Cost from counts and the [I, 3] patch grid of the images."""
        patches = np.prod(np.asarray(grid_thw, np.float64).reshape(-1, 3), axis=1)
        return float(
            self.token * tokens
            + self.pair * pairs
            + self.prediction * predictions
            + self.patch * patches.sum()
            + self.patch_pair * (patches**2).sum()
        )


def _width(vision: Any) -> int:
    """Width of a vision block; Qwen2-VL calls it embed_dim and means the output by hidden_size."""
    return int(getattr(vision, "embed_dim", None) or vision.hidden_size)


def _vision_weights(vision: Any) -> tuple[float, int]:
    """Operations per patch outside full attention, and the number of full-attention blocks."""
    width, depth = _width(vision), int(vision.depth)
    window = getattr(vision, "window_size", None)
    if window is None:  # Qwen2-VL: plain MLP, full attention everywhere
        mlp, full, window_patches, output = 2 * width * vision.mlp_ratio * width, depth, 0.0, None
    else:
        mlp, full = 3 * width * vision.intermediate_size, len(vision.fullatt_block_indexes)
        window_patches, output = (window / vision.patch_size) ** 2, vision.out_hidden_size
    merged = width * vision.spatial_merge_size**2
    merger = merged * (merged + (output or vision.hidden_size)) / vision.spatial_merge_size**2
    embed = 3 * vision.temporal_patch_size * vision.patch_size**2 * width
    per_patch = 2.0 * (depth * (4 * width**2 + mlp) + merger + embed)
    return per_patch + 4.0 * (depth - full) * width * window_patches, full


def _attended_pairs(batch: PackedBatch) -> float:
    """Number of (query, key) pairs that the attention rule of `PackedBatch` admits."""
    lengths = np.bincount(batch.segment_ids).astype(np.float64)
    own = (lengths * (lengths + 1) / 2).sum()
    behind = batch.prefix_ids[batch.prefix_ids >= 0]
    return float(own + lengths[behind].sum())


def balance(costs: Sequence[float], ranks: int, even: bool = False) -> list[list[int]]:
    """Spread items over ranks, longest processing time first.

    Args:
        costs: Cost of each item.
        ranks: Number of ranks.
        even: Give no rank more than ceil(items / ranks), so that all ranks run about as many
            collectives.

    Returns:
        Item indices per rank, ascending.
    """
    if ranks < 1:
        raise ValueError(f"ranks is {ranks}, must be >= 1")
    most = -(-len(costs) // ranks) if even else len(costs)
    loads, members = [0.0] * ranks, [[] for _ in range(ranks)]  # type: ignore[var-annotated]
    for index in sorted(range(len(costs)), key=lambda k: -costs[k]):
        open_ranks = [r for r in range(ranks) if len(members[r]) < most]
        rank = min(open_ranks, key=lambda r: (loads[r], len(members[r])))
        members[rank].append(index)
        loads[rank] += costs[index]
    return [sorted(indices) for indices in members]
