"""On-policy distillation: a frozen teacher judges the tokens that the policy itself sampled.

The policy p is pulled to the teacher q by the reverse KL(p || q) along its own completions, as in
MiniLLM (arXiv 2306.08543) and GKD (arXiv 2306.13649), in one of two ways:

    reward    weight x (log q - log p) of each sampled token is added to the token's advantage, so
              that ratio, clipping and correction apply to it as to any other reward
    loss      weight x KL(p || q) over the whole vocabulary at each position is added to the loss;
              there is no noise from which token was drawn, for a second product with both heads

Both take p and q at the sampling temperature, without the tokens that cannot be sampled. Shape
letters: N predicted tokens, C tokens of one chunk, H hidden width of the policy, G that of the
teacher, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from olmrl.config.schema import TeacherConfig
from olmrl.learner.logprobs import HeadGradients, HeadSpec, chunk_logits, chunks


@dataclass(frozen=True, slots=True)
class Distribution:
    """The teacher's next-token distribution at each predicted token, before its head."""

    hidden_NG: Tensor
    """Final hidden states at the predicting positions."""
    weight_VG: Tensor
    """Weight of its output head, whole."""


def taught(
    advantage_N: Tensor, teacher_N: Tensor | None, old_N: Tensor, teacher: TeacherConfig
) -> Tensor:
    """[N] advantages that the teacher had its part in.

    Args:
        advantage_N: of the rewards.
        teacher_N: log-probs under the teacher, where it acts as a reward.
        old_N: log-probs under the policy that ratios are taken against; no gradient flows.
        teacher: weight and clip of log q - log p; `alone` drops the advantages of the rewards.
    """
    if teacher.alone:
        advantage_N = torch.zeros_like(advantage_N)
    if teacher_N is not None:
        gap_N = (teacher_N - old_N.detach()).clamp(-teacher.clip, teacher.clip)
        advantage_N = advantage_N + teacher.weight * gap_N
    return advantage_N


def reverse_kl(
    hidden_NH: Tensor, weight_VH: Tensor, teacher: Distribution, spec: HeadSpec
) -> Tensor:
    """[N] float32 KL(p || q) in nats, differentiable in the policy's hidden states and head.

    Heads of one tokenizer may differ in rows that no token uses (151,936 and 152,064 in Qwen2.5-VL
    3B and 7B): p and q are taken over the rows that both have.

    Never holds more than a chunk of either model's [N, V] logits; the backward pass computes them
    again.

    Args:
        hidden_NH: the policy's final hidden states at the predicting positions.
        weight_VH: weight of the policy's output head.
        teacher: q.
        spec: temperature, banned ids, chunk size and precision, for p and q alike.
    """
    banned = torch.tensor(spec.banned_ids, dtype=torch.long, device=hidden_NH.device)
    rows = min(len(weight_VH), len(teacher.weight_VG))
    other_VG = teacher.weight_VG[:rows]
    apply: Any = _ReverseKl.apply
    found: Tensor = apply(hidden_NH, weight_VH[:rows], teacher.hidden_NG, other_VG, banned, spec)
    return found


class _ReverseKl(torch.autograd.Function):
    """sum_v p_v (log p_v - log q_v); its gradient by logit v is p_v (log p_v - log q_v - KL)."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        other_NG: Tensor,
        other_VG: Tensor,
        banned: Tensor,
        spec: HeadSpec,
    ) -> Tensor:
        kl_N = hidden_NH.new_empty(len(hidden_NH), dtype=torch.float32)
        for part in chunks(len(hidden_NH), spec.chunk):
            logp_CV = _log_softmax(hidden_NH[part], weight_VH, banned, spec)
            gap_CV = logp_CV - _log_softmax(other_NG[part], other_VG, banned, spec)
            kl_N[part] = torch.einsum("cv,cv->c", logp_CV.exp_(), gap_CV)
        ctx.save_for_backward(hidden_NH, weight_VH, other_NG, other_VG, banned, kl_N)
        ctx.spec = spec
        return kl_N

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor | None, ...]:
        hidden_NH, weight_VH, other_NG, other_VG, banned, kl_N = ctx.saved_tensors
        spec = ctx.spec
        gradients = HeadGradients(ctx, hidden_NH, weight_VH, spec)
        for part in chunks(len(hidden_NH), spec.chunk):
            logp_CV = _log_softmax(hidden_NH[part], weight_VH, banned, spec)
            gap_CV = logp_CV - _log_softmax(other_NG[part], other_VG, banned, spec)
            grad_CV = gap_CV.sub_(kl_N[part, None]).mul_(logp_CV.exp_())
            gradients.add(part, grad_CV.mul_(grad_N[part, None] / spec.temperature))
        return *gradients.found(), None, None, None, None


def _log_softmax(hidden: Tensor, weight: Tensor, banned: Tensor, spec: HeadSpec) -> Tensor:
    logits_CV = chunk_logits(hidden, weight, banned, spec)
    return logits_CV.sub_(torch.logsumexp(logits_CV, dim=-1, keepdim=True))
