"""Attacks on the default rewards of GRPO, against honest transcriptions of the same pages.

    python tests/support/red_team.py           prints the table of docs/rewards.md
    python tests/support/red_team.py --write   writes it there

A test keeps both equal. Needs the root of the repository in PYTHONPATH.
"""

from __future__ import annotations

import random
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import attacked_pages
import disguised_attacks
import numpy as np
import passage_attacks
import structure_attacks

from olmrl.config.schema import RewardConfig
from olmrl.rewards import build_all, score_rollouts
from olmrl.types import Completion, Page, Rollout

DOCS = Path(__file__).parents[2] / "docs" / "rewards.md"
BEGIN, END = "<!-- red team: begin -->", "<!-- red team: end -->"
PAGES = 6
DEFAULTS = ("bench", "front_matter", "eos")
_ALL = (
    *(attacked_pages.ATTACKS, disguised_attacks.ATTACKS, passage_attacks.ATTACKS),
    structure_attacks.ATTACKS,
)
ATTACKS = {
    kind: {name: run for some in _ALL for name, run in some.get(kind, {}).items()}
    for kind in (kind for some in _ALL for kind in some)
}
"""Every strategy by kind and name."""


def make_page(sheet: attacked_pages.Sheet, *, reference: bool) -> Page:
    """A page with its tests, with or without reference text."""
    rows = tuple(sheet.tests)
    files = tuple(f"{row['type']}.jsonl" for row in rows)
    text = sheet.truth() if reference else None
    return Page("a.pdf::1", "a.pdf", 1, reference=text, tests=rows, test_files=files)


def score(page: Page, texts: list[str], names: tuple[str, ...] = DEFAULTS) -> list[Rollout]:
    """Score texts, all of which end properly."""
    ids, none = np.ones(3, np.int32), np.zeros(0, np.float32)
    made = [Completion("g", k, ids, none, (), "stop", t, ids) for k, t in enumerate(texts)]
    return score_rollouts(build_all(RewardConfig(name=name) for name in names), page, made)


@dataclass
class Result:
    """What the attacks of one kind reached."""

    strategies: set[str] = field(default_factory=set)
    best: list[float] = field(default_factory=list)
    """Per page, the best total of any strategy."""
    gains: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Of each strategy, by page: its total less that of the honest transcription."""

    @property
    def winners(self) -> set[str]:
        """Strategies that beat the honest transcription on some page."""
        return {name for name, gains in self.gains.items() if max(gains) > 1e-9}

    @property
    def ahead(self) -> set[str]:
        """Strategies that beat the honest transcriptions on average."""
        return {name for name, gains in self.gains.items() if sum(gains) > 1e-9}


Outcome = tuple[float, dict[str, Result]]
"""Mean total of the honest transcriptions; by kind what the attacks reached."""


def attack_all(*, reference: bool, pages: int = PAGES) -> Outcome:
    """Mean total of the honest transcriptions, and by kind what the attacks reached."""
    honest_totals = []
    results: dict[str, Result] = defaultdict(Result)
    for seed in range(pages):
        rng = random.Random(seed)
        sheet = attacked_pages.invent(rng)
        honest = attacked_pages.honest(sheet, rng)
        page = make_page(sheet, reference=reference)
        (rollout,) = score(page, [honest])
        honest_totals.append(rollout.total)
        for kind, group in ATTACKS.items():
            made = {
                name: run(sheet, honest, random.Random(f"{seed}/{name}"))
                for name, run in group.items()
            }
            changed = {name: text for name, text in made.items() if text != honest}
            totals = [r.total for r in score(page, list(changed.values()))]
            result = results[kind]
            result.strategies |= set(group)
            result.best.append(max(totals, default=rollout.total))
            for name in group:
                result.gains[name].append(0.0)
            for name, total in zip(changed, totals, strict=True):
                result.gains[name][-1] = total - rollout.total
    return float(np.mean(honest_totals)), dict(results)


def table(by_reference: Outcome, by_tests: Outcome) -> str:
    """The table of docs/rewards.md."""
    (known, with_reference), (unknown, with_tests) = by_reference, by_tests
    lines = [
        "| kind | strategies | reference: best attack | that beat honest on some page | "
        "tests alone: best attack | that beat honest on average | on some page |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, result in with_reference.items():
        other = with_tests[kind]
        lines.append(
            f"| {kind} | {len(result.strategies)} | {np.mean(result.best):.2f} | "
            f"{len(result.winners)} | {np.mean(other.best):.2f} | {len(other.ahead)} | "
            f"{len(other.winners)} |"
        )
    count = sum(len(r.strategies) for r in with_reference.values())
    beaten = sum(len(r.winners) for r in with_reference.values())
    ahead = sum(len(r.ahead) for r in with_tests.values())
    lucky = sum(len(r.winners) for r in with_tests.values())
    lines.append(
        f"| **honest** | {count} | **{known:.2f}** | {beaten} | **{unknown:.2f}** | "
        f"{ahead} | {lucky} |"
    )
    return "\n".join(lines)


def documented() -> str:
    """The table as it stands in the documentation."""
    return DOCS.read_text("utf-8").split(BEGIN)[1].split(END)[0].strip()


def main() -> None:
    """Print or write the table."""
    made = table(attack_all(reference=True), attack_all(reference=False))
    if "--write" in sys.argv:
        before, rest = DOCS.read_text("utf-8").split(BEGIN)
        after = rest.split(END)[1]
        DOCS.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", "utf-8")
    sys.stdout.write(made + "\n")


if __name__ == "__main__":
    main()
