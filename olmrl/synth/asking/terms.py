"""How questions are asked, and what they may cost."""

from __future__ import annotations

from dataclasses import dataclass

from olmrl.mix import prices


@dataclass(frozen=True)
class Terms:
    """How questions are asked, and what they may cost."""

    model: str
    price: prices.Price | None
    """Of the user, or None for the list price."""
    max_usd: float | None
    max_tokens: int
    share: float = 1.0
    """Fraction of the list price that is charged."""

    @property
    def known_price(self) -> prices.Price | None:
        """What a token costs, if anybody knows."""
        return self.price or prices.lookup(self.model)

    def expected_usd(self, tokens: tuple[int, int]) -> float:
        """Dollars of a request with so many tokens in and out; 0 without a price."""
        usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
        return prices.facts(usage, self.model, self.price, self.share).get("cost_usd", 0.0)
