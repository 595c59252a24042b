"""What the terminal shows of a running verb: done, failed, cost."""

from __future__ import annotations

from collections.abc import Mapping

from olmrl.progress import Progress


class ProgressDisplay(Progress):
    """How far a verb is, by what became of its items."""

    def show(self, counts: Mapping[str, int], facts: Mapping[str, float]) -> None:
        """Show the totals so far."""
        self.update(sum(counts.values()), describe(counts, facts))


def describe(counts: Mapping[str, int], facts: Mapping[str, float]) -> str:
    """One line: items done, skipped and failed, followed by the verb's own totals."""
    parts = [f"{counts.get(name, 0)} {name}" for name in ("done", "skipped", "failed")]
    for name, value in sorted(facts.items()):
        parts.append(f"${value:.4f}" if name == "cost_usd" else f"{name} {value:,.0f}")
    return ", ".join(parts)
