"""Gated DeltaNet over a packed row: every segment starts from the state in which its prefix ended.

A recurrent layer (arXiv 2412.06464) has no mask that keeps the segments of a row apart. A segment
without a prefix starts from an empty state; a completion starts from its prompt's final state and
last convolution inputs. So a prompt runs once for all its completions, and their gradients reach it
through that state.

Segments of similar length run side by side, padded on the right, where beta = 0 and decay = 1 leave
the state as it is. Convolution and recurrence are transformers' functions, which call the kernels
of causal-conv1d and flash-linear-attention where these are installed and the tensors are on a GPU.

Shape letters: T packed tokens, C channels of the convolution, W inputs that it sees before its own,
S segments of a batch, L tokens of the longest, N value heads, H hidden width.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.qwen3_5 import modeling_qwen3_5
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet

from olmrl.models.spans import Span, padded_positions

KERNELS = {
    "recurrence": ("flash-linear-attention", "fla.ops.gated_delta_rule", "chunk_gated_delta_rule"),
    "short convolution": ("causal-conv1d", "causal_conv1d", "causal_conv1d_fn"),
}
"""By part of a layer: the package with its kernel, and where transformers finds it."""
MAX_PADDING = 1.5
"""Padded over true tokens that one batch of segments may reach."""


def _by_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that calls its kernel for tensors on a GPU, and the torch code beneath for others.

    transformers chooses once, by what is installed; Triton's kernels cannot read a CPU's memory.
    """
    in_torch = inspect.unwrap(function)

    @functools.wraps(in_torch)
    def chosen(first: Tensor, *others: Any, **named: Any) -> Any:
        return (in_torch if first.device.type == "cpu" else function)(first, *others, **named)

    return chosen


for _name in (
    "causal_conv1d_fn",
    "causal_conv1d_update",
    "torch_chunk_gated_delta_rule",
    "torch_recurrent_gated_delta_rule",
):
    # in place, as generation runs transformers' own forward pass
    setattr(modeling_qwen3_5, _name, _by_device(getattr(modeling_qwen3_5, _name)))


def has_kernel(module: str, name: str) -> bool:
    """Whether transformers finds a kernel; a package that fails to load counts as none there."""
    try:
        return hasattr(importlib.import_module(module), name)
    except Exception:  # whatever it is, transformers then computes in torch
        return False


def remarks(on_gpu: bool) -> list[str]:
    """What computes recurrent layers here; on a GPU also how to make it faster."""
    used = {
        part: p if on_gpu and has_kernel(*at) else "torch" for part, (p, *at) in KERNELS.items()
    }
    lines = ["; ".join(f"{part}: {code}" for part, code in used.items())]
    missing = [KERNELS[part][0] for part, code in used.items() if code == "torch"]
    if missing and on_gpu:
        lines.append(
            f"warning: {' and '.join(missing)} cannot be used here, so recurrent layers run in "
            f"plain torch, which is exact and slow; pip install {' '.join(missing)}"
        )
    return lines


@dataclass(frozen=True)
class SegmentBatch:
    """Segments that run side by side."""

    index_SL: Tensor
    """Their tokens in the row; padding points at the segment's first one."""
    real_SL: Tensor
    """False at padding."""
    before_SW: Tensor
    """The last tokens of their prefixes."""
    has_before_SW: Tensor
    """False where a segment has no prefix, or one shorter than W."""
    parent_S: Tensor | None
    """Rows of the prefixes among all segments without a prefix, in the order in which these run;
    None: no segment of the batch has one."""


class RecurrencePlan:
    """Order in which the segments of one row run; made once per row, used by every layer.

    Args:
        spans: the segments.
        taps: W.
        device: where the model is.
    """

    def __init__(
        self, spans: Sequence[Span], taps: int, device: torch.device | str = "cpu"
    ) -> None:
        roots = _group([span for span in spans if not span.prefix_length])
        suffixes = _group([span for span in spans if span.prefix_length])
        row = {span.start: n for n, span in enumerate(s for group in roots for s in group)}
        groups = [*roots, *suffixes]
        self.batches = [_make_batch(group, row, taps, device) for group in groups]
        self.padded_tokens = sum(batch.index_SL.numel() for batch in self.batches)
        """Tokens that the recurrence works on."""
        self.position_T = torch.from_numpy(padded_positions(groups)).to(device)
        """Where each token of the row stands among the padded batches' tokens."""


def _group(spans: Sequence[Span]) -> list[list[Span]]:
    """Spans of similar length side by side, within the bound on padding."""
    groups: list[list[Span]] = []
    for span in sorted(spans, key=lambda s: (s.length, s.start)):
        if groups:
            true = sum(s.length for s in groups[-1]) + span.length
            if (len(groups[-1]) + 1) * span.length <= MAX_PADDING * true:
                groups[-1].append(span)
                continue
        groups.append([span])
    return groups


def _make_batch(
    spans: Sequence[Span], row: dict[int, int], taps: int, device: torch.device | str
) -> SegmentBatch:
    start = np.asarray([s.start for s in spans])[:, None]
    length = np.asarray([s.length for s in spans])[:, None]
    prefix_start = np.asarray([s.prefix_start for s in spans])[:, None]
    prefix_end = prefix_start + np.asarray([s.prefix_length for s in spans])[:, None]
    steps = np.arange(length.max())
    real = steps < length
    before = prefix_end - taps + np.arange(taps)
    known = before >= prefix_start
    has_prefix = bool(spans[0].prefix_length)
    parents = np.asarray([row[s.prefix_start] for s in spans]) if has_prefix else None

    def to(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return SegmentBatch(
        index_SL=to(np.where(real, start + steps, start)),
        real_SL=to(real),
        before_SW=to(np.where(known, before, 0)),
        has_before_SW=to(known),
        parent_S=None if parents is None else to(parents),
    )


class Decay(nn.Module):
    """How much of its state each head keeps at a token; a unit of its own, to stay in float32."""

    def __init__(self, a_log: nn.Parameter, dt_bias: nn.Parameter) -> None:
        super().__init__()
        self.A_log = nn.Parameter(a_log.detach().float(), a_log.requires_grad)
        self.dt_bias = nn.Parameter(dt_bias.detach().float(), dt_bias.requires_grad)

    def forward(self, step: Tensor) -> Tensor:
        """Logarithm of the decay, float32 and never positive, from step sizes before softplus."""
        return -self.A_log.exp() * F.softplus(step.float() + self.dt_bias)


class PackedDeltaNet(Qwen3_5GatedDeltaNet):
    """A Gated DeltaNet layer that also takes packed rows; made of a loaded one (`take_over`)."""

    olmrl_decay: Decay

    @classmethod
    def take_over(cls, layer: Any) -> None:
        """Make a layer of transformers one of these, in place.

        Its parameters `A_log` and `dt_bias` move to `olmrl_decay.*` (see `adapters.plain_name`).
        """
        decay = Decay(layer.A_log, layer.dt_bias)
        del layer.A_log, layer.dt_bias
        layer.olmrl_decay = decay
        layer.__class__ = cls

    @property
    def A_log(self) -> Tensor:  # type: ignore[override]
        """Of transformers' own forward pass, in generation."""
        return self.olmrl_decay.A_log

    @property
    def dt_bias(self) -> Tensor:  # type: ignore[override]
        """As `A_log`."""
        return self.olmrl_decay.dt_bias

    def forward(
        self, hidden_states: Tensor, recurrence: RecurrencePlan | None = None, **others: Any
    ) -> Tensor:
        """From [1, T, H] to [1, T, H] with a plan of the row; without one as transformers does.

        Args:
            hidden_states: normalised.
            recurrence: segments of the row.
            others: cache and mask of transformers.
        """
        if recurrence is None:
            out: Tensor = super().forward(hidden_states, **others)
            return out
        (hidden_TH,) = hidden_states
        mixed_TNV = self._scan(
            self.in_proj_qkv(hidden_TH),
            self.olmrl_decay(self.in_proj_a(hidden_TH)),
            self.in_proj_b(hidden_TH).sigmoid(),
            recurrence,
        )
        gate_TNV = self.in_proj_z(hidden_TH).unflatten(-1, (-1, self.head_v_dim))
        gated = self.norm(mixed_TNV.flatten(0, 1), gate_TNV.flatten(0, 1))
        out = self.out_proj(gated.reshape(1, len(hidden_TH), -1))
        return out

    # plans differ from batch to batch
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _scan(
        self, inputs_TC: Tensor, decay_TN: Tensor, beta_TN: Tensor, plan: RecurrencePlan
    ) -> Tensor:
        """Convolution and recurrence over all segments: [T, N, value width]."""
        outputs: list[Tensor] = []
        roots: list[Tensor] = []
        states: Tensor | None = None
        for batch in plan.batches:
            initial = None
            if batch.parent_S is not None:
                states = torch.cat(roots) if states is None else states
                initial = states[batch.parent_S]
            out, final = recur(
                self,
                self._convolve(inputs_TC, batch),
                decay_TN[batch.index_SL] * batch.real_SL[..., None],
                beta_TN[batch.index_SL] * batch.real_SL[..., None],
                initial,
            )
            roots.append(final)
            outputs.append(out.flatten(0, 1))
        return torch.cat(outputs).index_select(0, plan.position_T)

    def _convolve(self, inputs_TC: Tensor, batch: SegmentBatch) -> Tensor:
        """[S, L, C] after the causal convolution, which goes on from each segment's prefix."""
        before = inputs_TC[batch.before_SW] * batch.has_before_SW[..., None]
        joined = torch.cat([before, inputs_TC[batch.index_SL]], 1).transpose(1, 2)
        weight, bias = self.conv1d.weight.squeeze(1), self.conv1d.bias
        out: Tensor = modeling_qwen3_5.causal_conv1d_fn(
            joined, weight, bias, activation=self.activation
        )
        return out[..., before.shape[1] :].transpose(1, 2)


def recur(
    layer: Any,
    mixed_SLC: Tensor,
    decay_SLN: Tensor,
    beta_SLN: Tensor,
    initial: Tensor | None,
    *,
    by_token: bool = False,
) -> tuple[Tensor, Tensor]:
    """The gated delta rule over segments side by side.

    Args:
        layer: of transformers or of vLLM: both call widths and heads by the same names.
        mixed_SLC: queries, keys and values after the convolution.
        decay_SLN: logarithm of the decay.
        beta_SLN: share of a value that is written.
        initial: [S, N, key width, value width] states to start from; None: empty ones.
        by_token: go token by token, for decoding; a chunk would be padded to 64 tokens.

    Returns:
        Outputs [S, L, N, value width], and final states as `initial`, float32.
    """
    query, key, value = mixed_SLC.split((layer.key_dim, layer.key_dim, layer.value_dim), dim=-1)
    shared = layer.num_v_heads // layer.num_k_heads
    query, key = (
        x.unflatten(-1, (-1, layer.head_k_dim)).repeat_interleave(shared, 2) for x in (query, key)
    )
    way = "recurrent" if by_token else "chunk"
    rule = getattr(modeling_qwen3_5, f"torch_{way}_gated_delta_rule")
    out, final = rule(
        query,
        key,
        value.unflatten(-1, (-1, layer.head_v_dim)),
        g=decay_SLN,
        beta=beta_SLN,
        initial_state=initial,
        output_final_state=True,
        use_qk_l2norm_in_kernel=True,
    )
    return out, final
