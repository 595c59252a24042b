"""How many pages were kept, bad, or dropped by which rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from olmrl.data.render import BadPage
from olmrl.data.steps import Dropped
from olmrl.metrics import Measurements, Sum


@dataclass
class Tally:
    """What became of the pages of a stream."""

    kept: int = 0
    bad: int = 0
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Pages by (step, rule)."""

    def add(self, value: Any) -> None:
        """Count the note of a page (see `page_sets.ExampleWork`)."""
        if isinstance(value, Dropped):
            self.dropped[value.step, value.rule] += 1
        elif isinstance(value, BadPage):
            self.bad += 1
        else:
            self.kept += 1

    def counted(self, value: Any) -> Any:
        """Count a value and return it."""
        self.add(value)
        return value

    @property
    def total(self) -> int:
        """Pages counted."""
        return self.kept + self.bad + self.dropped.total()

    def measurements(self, room: str) -> Measurements:
        """Counts for metrics, dropped pages by step; names begin with the room."""
        steps: Counter[str] = Counter()
        for (step, _), count in self.dropped.items():
            steps[step] += count
        measured: Measurements = {
            f"{room}/pages_kept": Sum(self.kept),
            f"{room}/pages_bad": Sum(self.bad),
        }
        return measured | {f"{room}/dropped/{step}": Sum(n) for step, n in sorted(steps.items())}

    def summary(self) -> str:
        """One line per rule, most frequent first."""
        lines = [f"{self.kept} of {self.total} pages kept, {self.bad} bad"]
        for (step, rule), count in self.dropped.most_common():
            lines.append(f"  {count} dropped by {step}: {rule}")
        return "\n".join(lines)

    def copy(self) -> Tally:
        """The counts as they are now."""
        return Tally(self.kept, self.bad, self.dropped.copy())

    def as_json(self) -> dict[str, Any]:
        """The counts as plain JSON."""
        rows = [[step, rule, count] for (step, rule), count in self.dropped.items()]
        return {"kept": self.kept, "bad": self.bad, "dropped": rows}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tally:
        """What `as_json` gave."""
        dropped = Counter({(step, rule): count for step, rule, count in value["dropped"]})
        return cls(value["kept"], value["bad"], dropped)

    def require_some(self) -> None:
        """Refuse to go on if there were pages but none was kept.

        Raises:
            ValueError: all pages were dropped or bad (says by which rules).
        """
        if self.total and not self.kept:
            raise ValueError(f"no page is left to train on: {self.summary()}")


def excess_bad(bad: int, total: int, most: float, title: str = "pages") -> str | None:
    """Why a set has too many bad pages; None if it has not.

    Args:
        bad: How many there are.
        total: Pages of the set, bad ones included.
        most: `data.max_bad_fraction`.
        title: What the set's pages are called.
    """
    if bad <= most * total:
        return None
    return (
        f"{bad} of {total} {title} cannot be used, more than data.max_bad_fraction={most:g} allows"
    )
