"""Exact attention over a packed row, plugged into transformers' attention registry.

A token sees earlier tokens of its own segment and of its prefix segment (see `PackedBatch`). Three
kernels compute it, chosen per device: SDPA over small padded tiles (anywhere), FlexAttention with a
block mask (CUDA), flash-attn's variable-length kernel (CUDA, where installed). None of them makes a
T x T mask. Shape letters: T packed tokens, S segments in a tile, Q queries, K keys, D head width.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, FlexKernelOptions, flex_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from olmrl.models.registry import family_of
from olmrl.models.spans import Span, padded_positions

try:
    from flash_attn import flash_attn_varlen_func
except ImportError:  # the `flash-attn` extra is optional
    flash_attn_varlen_func = None

Kernel = Literal["sdpa", "flash", "flex"]
LANGUAGE = "olmrl_packed"
# transformers hands `cu_seqlens` to vision attention only where the name contains "flash"
VISION = "olmrl_vision_flash"
TILE_AREA = 1 << 24
"""Most query-key pairs in one SDPA call; bounds its mask and its padding."""
BLOCK = 128
"""Tokens of a block of FlexAttention's mask."""
FLEX_OPTIONS: FlexKernelOptions = {"BACKEND": "TRITON"}
"""Left to itself, torch takes its decoding kernel for rows of less than 128 tokens. That one cannot
be compiled for float32 with heads of 128 (seen on an H200 with torch 2.11)."""
MAX_PADDING = 1.5
"""Largest ratio of padded to true query-key pairs in a tile."""


class PackedPlan(Protocol):
    """Attention over one packed row; made once per batch, used by every layer."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """From [1, heads, T, D] (key, value: [1, kv heads, T, D]) to [1, T, heads, D]."""


@dataclass(frozen=True)
class Tile:
    """Segments attended in one call: rows padded on the right, queries causal over their keys."""

    query_index: Tensor
    """[S * Q] positions of the queries; padding points at the segment's first token."""
    key_index: Tensor
    """[S * K] positions of the keys: prefix, then segment, then padding no query sees."""
    rows: int
    """S."""
    mask: Tensor | None
    """[S or 1, 1, Q, K] whether a query sees a key; None: causal."""


class SdpaPlan:
    """Segments over [prefix; segment] in padded tiles of torch's scaled dot product attention."""

    def __init__(self, spans: list[Span], device: torch.device | str = "cpu") -> None:
        tiles = _group_spans(spans)
        self.tiles = [_make_tile(tile, device) for tile in tiles]
        self.row_of_token = torch.from_numpy(padded_positions(tiles)).to(device)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """See `PackedPlan.attend`."""
        query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))
        outputs = []
        for tile in self.tiles:
            q, k, v = (
                x.index_select(0, index).unflatten(0, (tile.rows, -1)).transpose(1, 2)
                for x, index in (
                    (query, tile.query_index),
                    (key, tile.key_index),
                    (value, tile.key_index),
                )
            )
            out = F.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=tile.mask,
                is_causal=tile.mask is None,
                scale=scaling,
                enable_gqa=True,
            )
            outputs.append(out.transpose(1, 2).flatten(0, 1))
        joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return joined.index_select(0, self.row_of_token).unsqueeze(0)


def _group_spans(spans: list[Span]) -> list[list[Span]]:
    """Group spans of similar shape, within the bounds on area and padding."""
    tiles: list[list[Span]] = []
    exact = longest = keys = 0
    for span in sorted(spans, key=lambda s: (s.prefix_length, s.length, s.start)):
        area = exact + span.length * span.keys
        q, k = max(longest, span.length), max(keys, span.keys)
        same_kind = bool(tiles) and bool(tiles[-1][0].prefix_length) == bool(span.prefix_length)
        padded = (len(tiles[-1]) + 1) * q * k if tiles else 0
        if same_kind and padded <= TILE_AREA and padded <= MAX_PADDING * area:
            tiles[-1].append(span)
            exact, longest, keys = area, q, k
        else:
            tiles.append([span])
            exact, longest, keys = span.length * span.keys, span.length, span.keys
    return tiles


def _make_tile(spans: list[Span], device: torch.device | str) -> Tile:
    longest, keys = max(s.length for s in spans), max(s.keys for s in spans)
    query_index = np.empty((len(spans), longest), dtype=np.int64)
    key_index = np.empty((len(spans), keys), dtype=np.int64)
    for row, span in enumerate(spans):
        query_index[row] = span.start
        query_index[row, : span.length] = np.arange(span.start, span.start + span.length)
        key_index[row] = span.start
        key_index[row, : span.keys] = span.key_index()
    prefixes = np.asarray([s.prefix_length for s in spans])
    mask = None
    if prefixes.any():
        seen = prefixes[:1] if (prefixes == prefixes[0]).all() else prefixes
        last_key = seen[:, None] + np.arange(longest)
        mask = torch.from_numpy(np.arange(keys) <= last_key[:, None, :, None]).to(device)
    return Tile(
        query_index=torch.from_numpy(query_index.reshape(-1)).to(device),
        key_index=torch.from_numpy(key_index.reshape(-1)).to(device),
        rows=len(spans),
        mask=mask,
    )


class FlashPlan:
    """Segments over [prefix; segment] in one call of flash-attn's variable-length kernel."""

    def __init__(
        self, spans: list[Span], device: torch.device | str, kernel: Any = flash_attn_varlen_func
    ) -> None:
        self.kernel = kernel
        lengths = np.asarray([s.length for s in spans])
        keys = np.asarray([s.keys for s in spans])
        self.max_query, self.max_key = int(lengths.max()), int(keys.max())
        self.cu_query = _cumulative(lengths, device)
        self.cu_key = _cumulative(keys, device)
        self.key_index: Tensor | None = None
        """[sum K] positions of every segment's keys; None where no segment has a prefix."""
        if (keys != lengths).any():
            index = np.concatenate([s.key_index() for s in spans])
            self.key_index = torch.from_numpy(index).to(device)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """See `PackedPlan.attend`."""
        query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))
        if self.key_index is not None:
            key, value = key[self.key_index], value[self.key_index]
        out: Tensor = self.kernel(
            query.contiguous(),
            key.contiguous(),
            value.contiguous(),
            self.cu_query,
            self.cu_key,
            self.max_query,
            self.max_key,
            softmax_scale=scaling,
            causal=True,  # aligned at the last key, so a segment sees its whole prefix
        )
        return out.unsqueeze(0)


class FlexPlan:
    """FlexAttention over a block mask; a segment's id is the position of its first token."""

    def __init__(self, spans: list[Span], device: torch.device | str) -> None:
        total = sum(span.length for span in spans)
        segment_ids, prefix_ids = np.empty(total, np.int32), np.empty(total, np.int32)
        for span in spans:
            own = slice(span.start, span.start + span.length)
            segment_ids[own] = span.start
            prefix_ids[own] = span.prefix_start if span.prefix_length else -1
        segment = torch.from_numpy(segment_ids).to(device)
        prefix = torch.from_numpy(prefix_ids).to(device)

        def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            related = (segment[query] == segment[key]) | (segment[key] == prefix[query])
            return related & (key <= query)

        some, every = block_visibility(spans)
        partial, columns, full, full_columns = (
            torch.from_numpy(table)[None, None].to(device)
            for table in (*_listed(some & ~every), *_listed(every))
        )
        self.block_mask: BlockMask = BlockMask.from_kv_blocks(
            partial,
            columns,
            full,
            full_columns,
            BLOCK_SIZE=BLOCK,
            mask_mod=sees,
            seq_lengths=(total, total),
        )
        on_gpu = torch.device(device).type == "cuda"
        self.kernel: Any = _compiled_flex() if on_gpu else flex_attention
        self.repeats_keys = any(span.prefix_length for span in spans)
        """Whether every query head gets keys of its own.

        The backward kernel has one block of threads sum the gradient of a block of keys over all
        that see it, so a prompt that many completions see keeps a few blocks busy and the rest of
        the GPU waiting; copies give it more of them. Measured in benchmarks/results/gpu_h200_*.
        """

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """See `PackedPlan.attend`."""
        if self.repeats_keys:
            copies = query.shape[1] // key.shape[1]
            key, value = (x.repeat_interleave(copies, dim=1) for x in (key, value))
        out: Tensor = self.kernel(
            query,
            key,
            value,
            block_mask=self.block_mask,
            scale=scaling,
            enable_gqa=True,
            kernel_options=FLEX_OPTIONS,
        )
        return out.transpose(1, 2)


def block_visibility(spans: Sequence[Span]) -> tuple[np.ndarray, np.ndarray]:
    """[B, B] whether some, and whether every, token of a block sees some (every) token of another.

    From the spans alone: torch would evaluate the mask for each pair of tokens.
    """
    total = sum(span.length for span in spans)
    number = -(-total // BLOCK)
    some, every = (np.zeros((number, number), bool) for _ in range(2))
    for span in spans:
        last = span.start + span.length
        rows, whole = _touched(span.start, last), _covered(span.start, last)
        if span.prefix_length:
            end = span.prefix_start + span.prefix_length
            some[rows, _touched(span.prefix_start, end)] = True
        for row in range(rows.start, rows.stop):
            some[row, rows.start : row + 1] = True
        for row in range(whole.start, whole.stop):
            every[row, whole.start : row] = True
    # a prompt and the completions next to each other all see what of the prompt lies before them
    for (start, length), run in groupby(spans, key=_root):
        *_, final = members = list(run)
        whole = _covered(members[0].start, final.start + final.length)
        seen = _covered(start, start + length)
        for row in range(whole.start, whole.stop):
            every[row, seen.start : min(seen.stop, row)] = True
    return some, every


def _root(span: Span) -> tuple[int, int]:
    """Start and length of the segment that a span and its siblings see."""
    if span.prefix_length:
        return span.prefix_start, span.prefix_length
    return span.start, span.length


def _touched(start: int, end: int) -> slice:
    """Blocks with some token of a range."""
    return slice(start // BLOCK, -(-end // BLOCK))


def _covered(start: int, end: int) -> slice:
    """Blocks that lie in a range."""
    return slice(-(-start // BLOCK), end // BLOCK)


def _listed(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of marked blocks in each row [B], and their columns first [B, B], as int32."""
    order = np.argsort(~table, axis=1, kind="stable")
    return table.sum(axis=1, dtype=np.int32), order.astype(np.int32)


@cache
def _compiled_flex() -> Any:
    """FlexAttention compiled once per process; its unfused form would build T x T scores."""
    return torch.compile(flex_attention, dynamic=True)


def resolve_kernel(
    wanted: Literal["auto", "sdpa", "flash", "flex"], device: torch.device | str, dtype: str
) -> Kernel:
    """The attention kernel for a device and the dtype of the computation.

    Raises:
        ValueError: the wanted kernel cannot run there.
    """
    on_gpu = torch.device(device).type == "cuda"
    if wanted == "auto":
        if not on_gpu:
            return "sdpa"
        flash = flash_attn_varlen_func is not None and dtype != "float32"
        return "flash" if flash else "flex"
    if wanted == "flash" and dtype == "float32":
        raise ValueError(
            "model.attention: flash computes in half precision; set model.dtype to bfloat16, or "
            "model.attention to auto"
        )
    if wanted == "flash" and (flash_attn_varlen_func is None or not on_gpu):
        raise ValueError(
            "model.attention: flash needs a CUDA device and the flash-attn package "
            "(install olmrl[flash-attn]); auto and sdpa run anywhere"
        )
    if wanted == "flex" and not on_gpu:
        raise ValueError(
            "model.attention: flex needs a CUDA device (torch has no CPU gradients for it); "
            "auto and sdpa run anywhere"
        )
    return wanted


def describe_kernels(
    kernel: Kernel,
    wanted: Literal["auto", "sdpa", "flash", "flex"],
    device: torch.device | str,
    dtype: str,
) -> str:
    """The attention kernels of a learner in a line, and why `auto` took a slower one."""
    on_gpu = torch.device(device).type == "cuda"
    flash = on_gpu and flash_attn_varlen_func is not None and dtype != "float32"
    why = ""
    if on_gpu and wanted == "auto" and not flash:
        absent = "flash-attn is not installed: pip install 'olmrl[flash-attn]'"
        why = " (flash computes in half precision)" if dtype == "float32" else f" ({absent})"
    return f"attention: {kernel}{why}; in the vision tower: {'flash' if flash else 'sdpa'}"


def make_plan(spans: list[Span], kernel: Kernel, device: torch.device | str) -> PackedPlan:
    """Plan the attention of one packed row."""
    if kernel == "flash":
        return FlashPlan(spans, device)
    if kernel == "flex":
        return FlexPlan(spans, device)
    return SdpaPlan(spans, device)


class VisionSegments:
    """Bidirectional attention inside runs of patches: images, or windows of images."""

    def __init__(self, lengths: list[int], device: torch.device | str) -> None:
        self.lengths = lengths
        self.longest = max(lengths)
        self.cu_lengths = _cumulative(np.asarray(lengths), device)
        by_length: dict[int, list[np.ndarray]] = defaultdict(list)
        start = 0
        for length in lengths:
            by_length[length].append(np.arange(start, start + length))
            start += length
        self.groups: list[tuple[int, Tensor]] = []
        """Segments of equal length need no padding: (length, [S * length] positions)."""
        order = []
        for length, runs in by_length.items():
            index = np.concatenate(runs)
            order.append(index)
            self.groups.append((length, torch.from_numpy(index).to(device)))
        self.inverse = torch.from_numpy(np.argsort(np.concatenate(order))).to(device)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """From [1, heads, V, D] to [1, V, heads, D]."""
        query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))
        if query.is_cuda and flash_attn_varlen_func is not None and query.dtype != torch.float32:
            out: Tensor = flash_attn_varlen_func(
                query,
                key,
                value,
                self.cu_lengths,
                self.cu_lengths,
                self.longest,
                self.longest,
                softmax_scale=scaling,
            )
            return out.unsqueeze(0)
        if len(self.groups) == 1:
            return self._equal(query, key, value, self.groups[0][0], scaling).unsqueeze(0)
        outputs = [
            self._equal(query[index], key[index], value[index], length, scaling)
            for length, index in self.groups
        ]
        return torch.cat(outputs).index_select(0, self.inverse).unsqueeze(0)

    @staticmethod
    def _equal(query: Tensor, key: Tensor, value: Tensor, length: int, scaling: float) -> Tensor:
        q, k, v = (x.unflatten(0, (-1, length)).transpose(1, 2) for x in (query, key, value))
        out = F.scaled_dot_product_attention(q, k, v, scale=scaling)
        return out.transpose(1, 2).flatten(0, 1)


class VisionPlan:
    """Attention of the vision tower over the images of one batch.

    Args:
        segments: for each argument of the tower that carries boundaries (of whole images, of
            windows), the lengths of the runs of patches that attend to each other.
        device: where the tower is.
    """

    def __init__(
        self, segments: Mapping[str, Sequence[int]], device: torch.device | str = "cpu"
    ) -> None:
        planned = {name: VisionSegments(list(of), device) for name, of in segments.items()}
        self.cumulative = {name: one.cu_lengths for name, one in planned.items()}
        """[S + 1] boundaries by the name of the argument."""
        self._by_count = {len(one.cu_lengths): one for one in reversed(planned.values())}

    def of(self, cu_lengths: Tensor) -> VisionSegments:
        """The segments with these boundaries.

        Their number tells them apart: no window reaches beyond its image, so two partitions of
        equal size are the same.
        """
        return self._by_count[len(cu_lengths)]


def _language_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    packed: PackedPlan | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface; without a plan (generation) plain SDPA."""
    if packed is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    assert scaling is not None
    return _attend_eagerly(packed, query, key, value, scaling), None


def _vision_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    packed: VisionPlan | None = None,
    cu_seq_lens_q: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface for patches [1, heads, V, D]."""
    assert scaling is not None and cu_seq_lens_q is not None
    if packed is None:
        lengths = torch.diff(cu_seq_lens_q).tolist()
        segments = VisionSegments(lengths, query.device)
    else:
        segments = packed.of(cu_seq_lens_q)
    return _attend_eagerly(segments, query, key, value, scaling), None


@torch.compiler.disable
def _attend_eagerly(
    plan: PackedPlan, query: Tensor, key: Tensor, value: Tensor, scaling: float
) -> Tensor:
    """Plans differ from batch to batch; a compiled block breaks its graph here."""
    return plan.attend(query, key, value, scaling)


def _cumulative(lengths: np.ndarray, device: torch.device | str) -> Tensor:
    """[S + 1] int32 boundaries."""
    return torch.from_numpy(np.r_[0, np.cumsum(lengths)].astype(np.int32)).to(device)


AttentionInterface.register(LANGUAGE, _language_attention)
AttentionInterface.register(VISION, _vision_attention)
AttentionMaskInterface.register(LANGUAGE, sdpa_mask)


def use_packed_attention(model: Any) -> None:
    """Route a model's attention through this module.

    Raises:
        ValueError: the language model has sliding-window layers, which no kernel here computes.
    """
    family = family_of(model.config)
    language, tower = family.language(model), family.tower(model)
    if "sliding_attention" in getattr(language.config, "layer_types", ()):
        raise ValueError("model.path: models with sliding-window attention layers cannot be packed")
    language.config._attn_implementation = LANGUAGE
    tower.config._attn_implementation = VISION
