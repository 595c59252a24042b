"""How fast pages are read and what that costs. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Speed:
    """Pages and tokens of one call."""

    pages: int
    tokens: int
    """Of the answers that were kept."""
    seconds: float
    """From the first page asked for, so that the start of engines does not count."""

    @property
    def pages_per_s(self) -> float:
        """0 where nothing was read."""
        return self.pages / self.seconds if self.seconds > 0 else 0.0

    def usd_per_1000_pages(self, usd_per_hour: float) -> float | None:
        """What 1,000 pages cost at this speed.

        Args:
            usd_per_hour: price of all machines together.
        """
        if not self.pages_per_s:
            return None
        return usd_per_hour / 3600 * 1000 / self.pages_per_s

    def described(self, usd_per_hour: float | None) -> str:
        """One line."""
        text = (
            f"{self.pages_per_s:.2f} pages/s, {self.tokens / max(self.seconds, 1e-9):,.0f} "
            f"tokens/s over {self.seconds:.0f} s"
        )
        cost = self.usd_per_1000_pages(usd_per_hour) if usd_per_hour is not None else None
        if cost is None:
            return text
        return f"{text}; ${cost:.2f} per 1,000 pages at ${usd_per_hour:g} per hour"
