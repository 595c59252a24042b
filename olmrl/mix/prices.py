"""What tokens cost: list prices of the models that built olmOCR-mix, or the user's own prices."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

BATCH_SHARE = 0.5
"""Batch requests cost half."""


class Price(NamedTuple):
    """US dollars per million tokens, outside the batch API."""

    prompt: float
    completion: float


PRICES = {
    "gpt-4o-2024-08-06": Price(2.5, 10.0),
    "gpt-4o": Price(2.5, 10.0),
    "gpt-4o-mini": Price(0.15, 0.6),
    "gpt-4.1": Price(2.0, 8.0),
    "gpt-4.1-mini": Price(0.4, 1.6),
    "gpt-4.1-nano": Price(0.1, 0.4),
}
"""List prices as of 2025-10; `--price IN,OUT` overrides them."""


def parse(text: str) -> Price:
    """Read `IN,OUT` (dollars per million tokens).

    Raises:
        ValueError: not two numbers of at least 0.
    """
    try:
        given, answered = map(float, text.split(","))
    except ValueError:
        given = answered = math.nan
    if not (math.isfinite(given) and math.isfinite(answered) and min(given, answered) >= 0):
        raise ValueError(f"price {text!r} must be two numbers, dollars per million tokens: 2.0,8.0")
    return Price(given, answered)


def facts(usage: Any, model: str, price: Price | None, share: float) -> dict[str, float]:
    """Token counts, and the cost where a price is known, for a run's summary.

    Args:
        usage: The `usage` object of an answer; anything else counts as nothing.
        model: Its model, looked up in `PRICES`; dated names match their family.
        price: The user's price; overrides the table.
        share: Fraction of the list price that is charged.
    """
    if not isinstance(usage, dict):
        return {}
    tokens_in, tokens_out = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    found = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
    known = price or lookup(model)
    if known is not None:
        cost = (tokens_in * known.prompt + tokens_out * known.completion) / 1e6
        found["cost_usd"] = cost * share
    return found


def lookup(model: str) -> Price | None:
    """The list price of a model, if it is known."""
    names = [name for name in PRICES if model == name or model.startswith(name + "-20")]
    return PRICES[max(names, key=len)] if names else None
