"""Attacks by order, by open or empty elements, by marks and by unlike formulas pay nothing.

On the readings that they are meant for, in each reward alone and in their sum; nor does silence.
"""

import random

import attacked_pages
import pytest
import red_team
import structure_attacks
from test_passage_attacks import REWARDS

from olmrl.rewards.claims import claims
from olmrl.rewards.lettered import Lettered

ATTACKS = {
    f"{kind}: {name}": run
    for kind, group in structure_attacks.ATTACKS.items()
    for name, run in group.items()
}
READINGS = {
    "honest": lambda sheet, rng: attacked_pages.honest(sheet, rng).replace(sheet.header, ""),
    **structure_attacks.READINGS,
}
SLACK = {"edit_distance": 0.02, "cer": 0.02, "wer": 0.02}
"""Of what is added some may be read for what was lost (docs/rewards.md#what-is-left)."""


def drawn(seed, reading):
    rng = random.Random(f"{seed}/{reading}")
    sheet = attacked_pages.invent(rng)
    return sheet, READINGS[reading](sheet, rng), rng


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("seed", [951, 952])
def test_none_pays_in_any_reward_nor_in_their_sum(reading, seed):
    sheet, honest, _ = drawn(seed, reading)
    absent = {"teds": not sheet.table, "formula": not sheet.formulas}
    names = tuple(name for name in REWARDS if not absent.get(name))
    page = red_team.make_page(sheet, reference=True)
    texts = [run(sheet, honest, random.Random(f"{seed}/{n}")) for n, run in ATTACKS.items()]
    before, *after = red_team.score(page, [honest, *texts], names)
    gains = {
        (attack, name): rollout.rewards[name].value - result.value
        for attack, rollout in zip(ATTACKS, after, strict=True)
        for name, result in before.rewards.items()
    }
    assert {k: gain for k, gain in gains.items() if gain > SLACK.get(k[1], 0) + 1e-9} == {}
    assert max(rollout.total for rollout in after) <= before.total + max(SLACK.values())


def test_from_tests_alone_none_pays_on_average():
    found = dict.fromkeys(ATTACKS, 0.0)
    for seed in (951, 952, 953):
        sheet, honest, _ = drawn(seed, "honest")
        page = red_team.make_page(sheet, reference=False)
        texts = [run(sheet, honest, random.Random(f"{seed}/{n}")) for n, run in ATTACKS.items()]
        before, *after = red_team.score(page, [honest, *texts], ("bench",))
        for name, rollout in zip(ATTACKS, after, strict=True):
            found[name] += rollout.total - before.total
    assert {name: gain for name, gain in found.items() if gain > 1e-9} == {}


@pytest.mark.parametrize("seed", range(961, 967))
def test_leaving_a_block_out_or_writing_it_twice_does_not_pay_in_any_order(seed):
    sheet, _, rng = drawn(seed, "honest")
    blocks = rng.sample(sheet.blocks(), len(sheet.blocks()))
    texts = [blocks]
    for k, block in enumerate(blocks):
        at = rng.randrange(len(blocks) + 1)
        texts += [[*blocks[:k], *blocks[k + 1 :]], [*blocks[:at], block, *blocks[at:]]]
    page = red_team.make_page(sheet, reference=True)
    made = [attacked_pages.HEAD + "\n\n".join(text) + "\n" for text in texts]
    names = ("bench", "cer", "wer", "reading_order", "edit_distance", "validity")
    before, *after = red_team.score(page, made, names)
    for name, result in before.rewards.items():
        best = max(rollout.rewards[name].value for rollout in after)
        assert best <= result.value + SLACK.get(name, 0) + 1e-9, name


def test_blocks_that_changed_places_are_read_whole_though_they_share_words():
    """What both have in common is claimed by the block that it is in."""
    one = "Customs its kernel with paper boundary. Protein from slate theorem and bottle coal was."
    two = "Bridge bottle copper silver its coal. Captain of miller from lighthouse was bounded."
    start, end = "Report on module and garden.", "See the yearly engine."
    truth = Lettered.of("\n\n".join((start, two, one, end)))
    said = Lettered.of("\n\n".join((start, one, two, end)))
    read = claims(said, truth)
    assert read.covered.all()
    assert (read.source >= 0).all()
    assert not read.contested.any()
