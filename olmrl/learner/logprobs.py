"""Log-probabilities of target tokens, never holding more than a chunk of the [N, V] logits.

The forward pass keeps one float32 log-sum-exp and entropy per token; the backward pass computes the
logits of each chunk again. Shape letters: N predicted tokens, C tokens of one chunk, H hidden
width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

BANNED_LOGIT = -1e30
"""Logit of a token that cannot be sampled: probability exactly 0, and still finite."""


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """How hidden states become log-probabilities; the engine samples from the same distribution."""

    temperature: float = 1.0
    """Logits are divided by it."""
    banned_ids: tuple[int, ...] = ()
    """Token ids that have probability 0."""
    chunk: int = 1024
    """C, predicted tokens per chunk."""
    float32: bool = False
    """Multiply in float32, whatever the dtype of hidden states and weight."""


class TokenLogprobs(NamedTuple):
    """Per predicted token, float32."""

    logprobs_N: Tensor
    """log p(target)."""
    entropy_N: Tensor
    """Entropy of the whole distribution, nats."""


def token_logprobs(
    hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, spec: HeadSpec
) -> TokenLogprobs:
    """Log-probability of each target and entropy of each distribution, both differentiable.

    Args:
        hidden_NH: final hidden states at the predicting positions.
        weight_VH: weight of the output head.
        targets_N: int64 token ids.
        spec: temperature, banned ids, chunk size and precision.
    """
    banned = torch.tensor(spec.banned_ids, dtype=torch.long, device=hidden_NH.device)
    apply: Any = _ChunkedHead.apply
    return TokenLogprobs(*apply(hidden_NH, weight_VH, targets_N, banned, spec))


class _ChunkedHead(torch.autograd.Function):
    """log_softmax(h W^T / temperature) gathered at the targets, and its entropy, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        targets_N: Tensor,
        banned: Tensor,
        spec: HeadSpec,
    ) -> tuple[Tensor, Tensor]:
        tokens = len(targets_N)
        logprobs_N = hidden_NH.new_empty(tokens, dtype=torch.float32)
        entropy_N, lse_N = torch.empty_like(logprobs_N), torch.empty_like(logprobs_N)
        for part in chunks(tokens, spec.chunk):
            logits_CV = chunk_logits(hidden_NH[part], weight_VH, banned, spec)
            lse_N[part] = torch.logsumexp(logits_CV, dim=-1)
            logits_CV.sub_(lse_N[part, None])
            logprobs_N[part] = logits_CV.gather(-1, targets_N[part, None])[:, 0]
            entropy_N[part] = -torch.einsum("cv,cv->c", logits_CV.exp(), logits_CV)
        ctx.save_for_backward(hidden_NH, weight_VH, targets_N, banned, lse_N, entropy_N)
        ctx.spec = spec
        ctx.set_materialize_grads(False)
        return logprobs_N, entropy_N

    @staticmethod
    def backward(
        ctx: Any, grad_logprobs_N: Tensor | None, grad_entropy_N: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        hidden_NH, weight_VH, targets_N, banned, lse_N, entropy_N = ctx.saved_tensors
        spec = ctx.spec
        gradients = HeadGradients(ctx, hidden_NH, weight_VH, spec)
        for part in chunks(len(targets_N), spec.chunk):
            logp_CV = chunk_logits(hidden_NH[part], weight_VH, banned, spec).sub_(lse_N[part, None])
            p_CV = logp_CV.exp()
            # in place: a pass over [C, V] costs more than the arithmetic in it
            if grad_entropy_N is None:
                slope = torch.zeros_like(lse_N[part, None])
            else:
                slope = logp_CV.add_(entropy_N[part, None]).mul_(-grad_entropy_N[part, None])
            if grad_logprobs_N is not None:
                slope.sub_(grad_logprobs_N[part, None])
            grad_CV = p_CV.mul_(slope.div_(spec.temperature))
            if grad_logprobs_N is not None:
                grad_C1 = grad_logprobs_N[part, None] / spec.temperature
                grad_CV.scatter_add_(-1, targets_N[part, None], grad_C1)
            gradients.add(part, grad_CV)
        return *gradients.found(), None, None, None


class HeadGradients:
    """Gradients of hidden states and output head, from those of the logits, chunk by chunk.

    Args:
        ctx: of the autograd function, whose first two inputs they are.
        hidden_NH: hidden states.
        weight_VH: weight of the head.
        spec: precision of the products.
    """

    def __init__(self, ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, spec: HeadSpec) -> None:
        self._hidden_NH, self._weight_VH = hidden_NH, weight_VH
        self._work = torch.float32 if spec.float32 else hidden_NH.dtype
        hidden, weight = ctx.needs_input_grad[:2]
        self._grad_NH = torch.empty_like(hidden_NH) if hidden else None
        # chunks are summed in float32: many small addends would vanish in bfloat16
        self._grad_VH = torch.zeros_like(weight_VH, dtype=torch.float32) if weight else None

    def add(self, part: slice, grad_CV: Tensor) -> None:
        """Take the gradient of a chunk's products of hidden states and head."""
        grad_CV = grad_CV.to(self._work)
        if self._grad_NH is not None:
            product = grad_CV @ self._weight_VH.to(self._work)
            self._grad_NH[part] = product.to(self._hidden_NH.dtype)
        if self._grad_VH is not None:
            self._grad_VH += grad_CV.T @ self._hidden_NH[part].to(self._work)

    def found(self) -> tuple[Tensor | None, Tensor | None]:
        """Of hidden states and head; None for what needs none."""
        weight = None if self._grad_VH is None else self._grad_VH.to(self._weight_VH.dtype)
        return self._grad_NH, weight


def chunks(tokens: int, size: int) -> list[slice]:
    """Slices of at most `size` tokens."""
    return [slice(start, min(start + size, tokens)) for start in range(0, tokens, size)]


def chunk_logits(hidden_CH: Tensor, weight_VH: Tensor, banned: Tensor, spec: HeadSpec) -> Tensor:
    """[C, V] float32 logits at the temperature, banned ids masked."""
    if spec.float32 or hidden_CH.dtype == torch.float32:
        logits_CV = hidden_CH.float() @ weight_VH.float().T
    elif hidden_CH.is_cuda:
        logits_CV = torch.mm(hidden_CH, weight_VH.T, out_dtype=torch.float32)
    else:
        # a CPU has no such product: its float32 sums are rounded to bfloat16 once
        logits_CV = (hidden_CH @ weight_VH.T).float()
    if spec.temperature != 1.0:
        logits_CV.div_(spec.temperature)
    return logits_CV.index_fill_(-1, banned, BANNED_LOGIT) if len(banned) else logits_CV
