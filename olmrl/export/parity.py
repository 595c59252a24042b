"""Do two implementations of a model agree, token for token, on real pages?

One side (vLLM) transcribes pages greedily and reports its log-probs; the other (transformers)
scores the same tokens. Both get the same prompts and pixels, so any gap is due to the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from olmrl.export.emulate import TokenScores
from olmrl.types import Completion

OUTLIER = 1.0
"""A token is an outlier if its |log-prob gap| exceeds this."""


@dataclass(frozen=True, slots=True)
class TokenGap:
    """One token the two sides disagree on."""

    page_id: str
    position: int
    """Position in the completion, from 0."""
    token: str
    """What vLLM chose."""
    preferred: str
    """What transformers would have chosen there."""
    vllm: float
    """Log-probability of the token in vLLM."""
    transformers: float
    """Log-probability of the same token in transformers."""


@dataclass(frozen=True, slots=True)
class PageParity:
    """One page."""

    page_id: str
    tokens: int
    matches: int
    """Number of positions where transformers would have chosen the same token."""
    first_mismatch: int | None
    """First position where it would not."""
    mean_gap: float
    largest_gap: float


@dataclass(frozen=True, slots=True)
class Parity:
    """All pages."""

    pages: list[PageParity]
    worst: list[TokenGap]
    """Tokens by |gap|, largest first."""
    match_rate: float
    """Share of tokens that greedy transformers would have chosen too."""
    mean_gap: float
    """Mean |log-prob gap| per token."""
    largest_gap: float
    outliers: float
    """Share of tokens with |gap| > 1."""


def judge(
    page_ids: Sequence[str],
    completions: Sequence[Completion],
    scored: Sequence[TokenScores],
    decode: Callable[[Sequence[int]], str],
    *,
    worst: int = 10,
) -> Parity:
    """Compare completions with another implementation's scores of the same tokens.

    Args:
        page_ids: the page of each completion.
        completions: greedy, at temperature 1.
        scored: the other side, in the same order.
        decode: turns token ids into text, special tokens included.
        worst: number of tokens to list.

    Raises:
        ValueError: there is no token to compare.
    """
    pages, gaps, tokens = [], [], []
    for page_id, completion, view in zip(page_ids, completions, scored, strict=True):
        gap = np.abs(completion.logprobs - view.logprobs)
        wrong = np.flatnonzero(~view.is_top)
        pages.append(
            PageParity(
                page_id,
                len(gap),
                int(view.is_top.sum()),
                int(wrong[0]) if len(wrong) else None,
                float(gap.mean()) if len(gap) else 0.0,
                float(gap.max(initial=0.0)),
            )
        )
        gaps.append(gap)
        for at in np.argsort(-gap)[:worst]:
            token = TokenGap(
                page_id,
                int(at),
                decode([int(completion.token_ids[at])]),
                decode([int(view.top_ids[at])]),
                float(completion.logprobs[at]),
                float(view.logprobs[at]),
            )
            tokens.append((float(gap[at]), token))
    everything = np.concatenate(gaps) if gaps else np.zeros(0)
    if not len(everything):
        raise ValueError("parity: vLLM generated no token on any page")
    tokens.sort(key=lambda item: -item[0])
    return Parity(
        pages=pages,
        worst=[token for _, token in tokens[:worst]],
        match_rate=sum(page.matches for page in pages) / len(everything),
        mean_gap=float(everything.mean()),
        largest_gap=float(everything.max()),
        outliers=float((everything > OUTLIER).mean()),
    )
