"""Gated DeltaNet in float32 for vLLM's CPU build, whose own kernel takes bfloat16 only.

For tests and runs on a CPU, where engine and learner are to agree to the last digits: it uses the
learner's functions. Shape letters: T tokens of a step, S sequences side by side, L tokens of each,
C channels of the convolution, N value heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.qwen3_5 import modeling_qwen3_5
from vllm.forward_context import get_forward_context
from vllm.model_executor.layers.mamba.gdn.qwen_gdn_linear_attn import QwenGatedDeltaNetAttention

from olmrl.models.delta_net import recur


def install() -> None:
    """Let layers that are built from now on compute in float32."""
    layers: Any = QwenGatedDeltaNetAttention
    layers.forward_cpu = _forward


def _forward(layer: Any, hidden: Tensor) -> Tensor:
    """A layer over the tokens of a step [T, hidden], states read from and written to its cache."""
    widths = [2 * layer.key_dim + layer.value_dim, layer.value_dim]
    mixed, gate = layer.in_proj_qkvz(hidden)[0].split(widths, dim=-1)
    b, a = layer.in_proj_ba(hidden)[0].chunk(2, dim=-1)
    decay = -layer.A_log.exp() * F.softplus(a + layer.dt_bias)
    out = hidden.new_zeros(len(hidden), layer.num_v_heads, layer.head_v_dim)
    metadata = get_forward_context().attn_metadata
    if metadata is not None:  # None: vLLM measures memory
        for tokens, slots, known in _batches(metadata[layer.prefix]):
            rows = (x[tokens].unflatten(0, (len(slots), -1)) for x in (mixed, decay, b.sigmoid()))
            out[tokens] = _run(layer, slots, known, *rows).flatten(0, 1)
    result: Tensor = layer._output_projection(out, gate.unflatten(-1, (-1, layer.head_v_dim)))
    return result


def _batches(metadata: Any) -> Iterator[tuple[slice, Tensor, bool]]:
    """Tokens of sequences of equal length, places in the cache, whether there are states there.

    vLLM puts sequences that decode, one token each, before those that prefill.
    """
    ends = metadata.non_spec_query_start_loc.tolist()
    slots, decodes = metadata.non_spec_state_indices_tensor.long(), metadata.num_decodes
    if decodes:
        yield slice(0, decodes), slots[:decodes], True
    for row in range(decodes, decodes + metadata.num_prefills):
        known = bool(metadata.has_initial_state[row])
        yield slice(ends[row], ends[row + 1]), slots[row : row + 1], known


def _run(
    layer: Any, slots: Tensor, known: bool, mixed_SLC: Tensor, decay_SLN: Tensor, beta_SLN: Tensor
) -> Tensor:
    """[S, L, N, value width] of convolution and recurrence, which go on from the cache."""
    inputs, cached = layer.kv_cache
    before = inputs[slots] if known else torch.zeros_like(inputs[slots])
    joined = torch.cat([before, mixed_SLC], dim=1)
    taps = before.shape[1]
    inputs[slots] = joined[:, -taps:]
    weight = layer.conv1d.weight.squeeze(1)
    convolved = modeling_qwen3_5.causal_conv1d_fn(joined.transpose(1, 2), weight, activation="silu")
    states = cached.view(len(cached), layer.num_v_heads, layer.head_k_dim, layer.head_v_dim)
    initial = states[slots].float() if known else None
    mixed = convolved[..., taps:].transpose(1, 2)
    out, final = recur(layer, mixed, decay_SLN, beta_SLN, initial, by_token=mixed.shape[1] == 1)
    states[slots] = final.to(states.dtype)
    return out
