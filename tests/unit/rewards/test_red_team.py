"""Nothing that is added to an honest transcription pays, and neither does leaving text out."""

import random

import attacked_pages
import numpy as np
import pytest
import red_team
from hypothesis import given, settings
from hypothesis import strategies as st

STRATEGIES = sorted((kind, name) for kind, group in red_team.ATTACKS.items() for name in group)


@pytest.fixture(scope="module")
def attacked():
    """What the attacks reach with a reference, and without."""
    return red_team.attack_all(reference=True), red_team.attack_all(reference=False)


def test_no_strategy_beats_an_honest_transcription(attacked):
    _, results = attacked[0]
    assert len(results) >= 8
    assert sum(len(result.strategies) for result in results.values()) >= 60
    assert {kind: result.winners for kind, result in results.items() if result.winners} == {}


def test_without_a_reference_no_strategy_is_ahead_on_average(attacked):
    _, results = attacked[1]
    assert {kind: result.ahead for kind, result in results.items() if result.ahead} == {}


def test_the_table_in_the_documentation_is_what_the_attacks_reach(attacked):
    assert red_team.documented() == red_team.table(*attacked)


def pages(seed, whole=True):
    rng = random.Random(seed)
    sheet = attacked_pages.invent(rng)
    return sheet, attacked_pages.honest(sheet, rng, whole=whole), rng


SETTINGS = settings(max_examples=120, deadline=None, derandomize=True)


@SETTINGS
@given(st.integers(1000, 1_000_000), st.lists(st.sampled_from(STRATEGIES), min_size=1, max_size=3))
def test_added_text_never_raises_the_total(seed, chosen):
    sheet, honest, rng = pages(seed)
    text = honest
    for kind, name in chosen:
        text = red_team.ATTACKS[kind][name](sheet, text, rng)
    page = red_team.make_page(sheet, reference=True)
    before, after = red_team.score(page, [honest, text])
    assert after.total <= before.total + 1e-9


@SETTINGS
@given(st.integers(1000, 1_000_000), st.booleans(), st.integers(1, 3))
def test_left_out_text_never_raises_the_total_or_any_type(seed, whole, times):
    sheet, honest, rng = pages(seed, whole)
    # the running head is not text of the page: leaving it out may well pay
    honest = honest.replace(sheet.header, "")
    text = honest
    for _ in range(times):
        text = attacked_pages.without_some(text, rng)
    page = red_team.make_page(sheet, reference=True)
    before, after = red_team.score(page, [honest, text])
    assert after.total <= before.total + 1e-9
    for name, value in before.rewards["bench"].parts.items():
        assert after.rewards["bench"].parts[name] <= value + 1e-9, name


@SETTINGS
@given(st.integers(1000, 1_000_000))
def test_the_truth_earns_everything(seed):
    sheet, _, _ = pages(seed)
    names = (*red_team.DEFAULTS, "edit_distance", "element_count", "rect_tables")
    (rollout,) = red_team.score(red_team.make_page(sheet, reference=True), [sheet.truth()], names)
    assert {name: result.value for name, result in rollout.rewards.items()} == dict.fromkeys(
        names, pytest.approx(1.0)
    )


def test_silence_pays_less_than_a_misreading():
    """Leaving out what is misread, one word or all of it: rarely does a reward rise, or by much.

    Two readings of a page can always be so chosen that an alignment errs, hence the bounds.
    """
    rises = {"bench": [], "edit_distance": []}
    for seed in range(40):
        rng = random.Random(seed)
        sheet = attacked_pages.invent(rng)
        text = attacked_pages.misreading(sheet, rng)
        wrong = attacked_pages.misread_words(sheet, text)
        shorter = []
        for count in (1, 1, 2, 5, len(wrong)):
            there = attacked_pages.body(text)
            for start, end in sorted(rng.sample(wrong, min(count, len(wrong))), reverse=True):
                there = there[:start] + there[end:]
            shorter.append(attacked_pages.HEAD + there)
        page = red_team.make_page(sheet, reference=True)
        before, *after = red_team.score(page, [text, *shorter], tuple(rises))
        for name, changes in rises.items():
            changes += [r.rewards[name].value - before.rewards[name].value for r in after]
    for name, changes in rises.items():
        assert np.mean(changes) < 0, name
        assert np.mean(np.array(changes) > 1e-9) < 0.1, name
        assert max(changes) < 0.1, name


@SETTINGS
@given(st.integers(1000, 1_000_000), st.sampled_from(STRATEGIES), st.booleans())
def test_edit_distance_pays_neither_for_added_text_nor_for_silence(seed, chosen, less):
    sheet, honest, rng = pages(seed)
    honest = honest.replace(sheet.header, "")
    kind, name = chosen
    if less:
        text = attacked_pages.without_some(honest, rng)
    else:
        text = red_team.ATTACKS[kind][name](sheet, honest, rng)
    page = red_team.make_page(sheet, reference=True)
    before, after = red_team.score(page, [honest, text], ("edit_distance",))
    assert after.total <= before.total + 0.02
