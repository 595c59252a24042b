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

    @classmethod
    def from_config(cls, config: Any) -> CostModel:
        """Read the shape of a Qwen2.5-VL-class model from its transformers config."""
        text, vision = config.text_config, config.vision_config
        width, full = vision.hidden_size, len(vision.fullatt_block_indexes)
        merged = width * vision.spatial_merge_size**2
        window_patches = (vision.window_size / vision.patch_size) ** 2
        queries = language_matrices(text)["q_proj"][1]
        return cls(
            token=2.0 * text.num_hidden_layers * _size(language_matrices(text)),
            pair=4.0 * text.num_hidden_layers * queries,
            prediction=2.0 * text.hidden_size * text.vocab_size,
            embed=2.0 * 3 * vision.temporal_patch_size * vision.patch_size**2 * width,
            patch=2.0 * vision.depth * _size(vision_matrices(vision)),
            window=4.0 * (vision.depth - full) * width * window_patches,
            merger=2.0 * merged * (merged + vision.out_hidden_size) / vision.spatial_merge_size**2,
            patch_pair=4.0 * full * width,
        )

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
            self.token * tokens
            + self.pair * pairs
            + self.prediction * predictions
            + (self.embed + self.patch + self.window + self.merger) * patches.sum()
            + self.patch_pair * (patches**2).sum()
        )


def language_matrices(text: Any) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of each linear layer of a language block, in the order they are run."""
    hidden, inner = text.hidden_size, text.intermediate_size
    head = getattr(text, "head_dim", None) or hidden // text.num_attention_heads
    queries, keys = text.num_attention_heads * head, text.num_key_value_heads * head
    return {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }


def vision_matrices(vision: Any) -> dict[str, tuple[int, int]]:
    """The same of a vision block."""
    width, inner = vision.hidden_size, vision.intermediate_size
    return {
        "qkv": (width, 3 * width),
        "proj": (width, width),
        "gate_proj": (width, inner),
        "up_proj": (width, inner),
        "down_proj": (inner, width),
    }


def _size(matrices: dict[str, tuple[int, int]]) -> int:
    return sum(inputs * outputs for inputs, outputs in matrices.values())


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
