"""The right words beside unlike ones, and the right passage beside another one, pay nothing."""

import random

import attacked_pages
import passage_attacks
import pytest
import red_team

ATTACKS = {
    f"{kind}: {name}": run
    for kind, group in passage_attacks.ATTACKS.items()
    for name, run in group.items()
}
REWARDS = (
    *("bench", "edit_distance", "cer", "wer", "reading_order", "validity", "teds", "formula"),
    *("element_count", "rect_tables"),
)
SLACK = {"edit_distance": 0.02}
"""A misreading may be a fifth longer than what it stands for (docs/rewards.md#what-is-left)."""
LEFT = {"unlike formulas": ("cer", "wer", "reading_order")}
"""These count words, of which a wrong formula may have fewer than the right one (see there)."""


def applicable(sheet, reading):
    absent = {"teds": not sheet.table, "formula": not sheet.formulas}
    left = LEFT.get(reading, ())
    return tuple(name for name in REWARDS if not absent.get(name) and name not in left)


@pytest.mark.parametrize("reading", passage_attacks.READINGS)
@pytest.mark.parametrize("seed", [901, 902])
def test_none_pays_in_any_reward_nor_in_their_sum(reading, seed):
    rng = random.Random(f"{seed}/{reading}")
    sheet = attacked_pages.invent(rng)
    honest = passage_attacks.READINGS[reading](sheet, rng)
    page = red_team.make_page(sheet, reference=True)
    texts = [run(sheet, honest, random.Random(f"{seed}/{n}")) for n, run in ATTACKS.items()]
    assert len(set(texts)) > 30
    before, *after = red_team.score(page, [honest, *texts], applicable(sheet, reading))
    gains = {
        (attack, name): rollout.rewards[name].value - result.value
        for attack, rollout in zip(ATTACKS, after, strict=True)
        for name, result in before.rewards.items()
    }
    assert {k: gain for k, gain in gains.items() if gain > SLACK.get(k[1], 0) + 1e-9} == {}
    assert max(rollout.total for rollout in after) <= before.total + 1e-9
