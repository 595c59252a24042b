"""The simulation against hand computations, conservation laws and the real ledger."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmrl.cluster.simulation.batching import Costs, Lengths
from olmrl.cluster.simulation.loop import Setup, _Run, simulate
from olmrl.grpo.ledger import Ledger
from olmrl.types import PolicyVersion

EVEN = Lengths(100, 0, 1000)
LONG_TAILED = Lengths(300, 0.6, 1000)
SMALL = Setup(
    engines=1,
    slots=1000,
    learners=1,
    scorers=1,
    pages_per_step=2,
    group_size=4,
    lengths=EVEN,
    prompt=10,
)
PARTS = Costs(
    prefill=0.5,
    decode_step=0.01,
    score=0.1,
    learn_page=1.0,
    learn_token=0.001,
    learn_step=0.2,
    sync=0.3,
)


def test_a_synchronous_step_by_hand():
    found = simulate(SMALL, PARTS, steps=10)
    # two prefills, 100 decode steps; eight completions end together and are scored one by one;
    # two pages and 800 tokens are learned on one rank; then the weights move
    assert found.shares == {
        "generation": pytest.approx(2.0 / 6.1),
        "scoring": pytest.approx(0.8 / 6.1),
        "learning": pytest.approx(3.0 / 6.1),
        "sync": pytest.approx(0.3 / 6.1),
    }
    assert found.step_s == pytest.approx(2 * 0.5 + 100 * 0.01 + 8 * 0.1 + 2 + 0.8 + 0.2 + 0.3)
    assert found.bottleneck == "learning"
    assert found.engines_idle == pytest.approx(1 - 2.0 / 6.1)
    assert found.learners_idle == pytest.approx(1 - 3.0 / 6.1)
    assert found.scorers_idle == pytest.approx(1 - 0.8 / 6.1)


def test_a_decode_step_is_bound_by_reading_or_by_arithmetic():
    costs = Costs(decode_step=1.0, decode_weights=2.0, decode_context=0.001, decode_sequence=0.5)
    assert costs.step(1, 1000) == pytest.approx(1 + 2 + 1)
    assert costs.step(20, 1000) == pytest.approx(1 + 10)
    assert replace(costs, decode_state=0.5).step(1, 1000) == pytest.approx(1 + 2 + 1 + 0.5)


def test_context_that_grows_is_read_at_its_mean():
    costs = Costs(decode_context=0.001)
    found = simulate(replace(SMALL, pages_per_step=1), costs, steps=5)
    # four sequences of 10 prompt tokens, 0..100 of their own, read at every one of 100 steps
    assert found.step_s == pytest.approx(100 * 4 * (10 + 50) * 0.001, rel=1e-6)


def test_slots_make_completions_queue():
    one_by_one = replace(SMALL, slots=1)
    found = simulate(one_by_one, Costs(decode_step=0.01), steps=5)
    assert found.step_s == pytest.approx(8 * 100 * 0.01)


def test_balanced_parts_overlap_when_rollouts_run_ahead():
    """At k=1 a step takes as long as its slowest part, plus the update that stops both."""
    costs = Costs(decode_step=0.03, learn_page=1.0, learn_step=1.0, sync=0.1)
    alone = simulate(SMALL, costs, steps=40)
    ahead = simulate(replace(SMALL, max_staleness=1), costs, steps=40)
    assert alone.step_s == pytest.approx(3.0 + 3.0 + 0.1)
    assert ahead.step_s == pytest.approx(3.0 + 0.1, rel=0.05)
    assert ahead.learners_idle < 0.1 and ahead.engines_idle < 0.1


@pytest.mark.parametrize(("slow", "seconds"), [("engines", 4.0), ("learners", 6.0)])
def test_the_slower_part_sets_the_pace_and_never_waits(slow, seconds):
    """Engines compute 800 tokens per step at 5 ms each, or the learner takes 3 s per page."""
    costs = Costs(
        decode_sequence=0.005 if slow == "engines" else 0.001,
        learn_page=0.2 if slow == "engines" else 3.0,
    )
    found = simulate(replace(SMALL, max_staleness=2), costs, steps=60)
    assert found.step_s == pytest.approx(seconds, rel=0.05)
    assert getattr(found, f"{slow}_idle") < 0.05
    other = "learners" if slow == "engines" else "engines"
    assert getattr(found, f"{other}_idle") > 0.3


def test_more_ranks_than_groups_do_not_help():
    costs = Costs(decode_step=0.001, learn_page=1.0)
    two = simulate(replace(SMALL, learners=2), costs, steps=10)
    eight = simulate(replace(SMALL, learners=8), costs, steps=10)
    assert two.step_s == pytest.approx(eight.step_s)
    assert eight.learners_idle > 0.7


def test_over_sampling_cuts_the_tail():
    setup = replace(SMALL, lengths=LONG_TAILED, group_size=8, pages_per_step=8)
    costs = Costs(decode_step=0.01)
    plain = simulate(setup, costs, steps=40)
    more = simulate(replace(setup, oversample=4), costs, steps=40)
    assert more.step_s < 0.8 * plain.step_s
    assert more.counts["completions"] == plain.counts["completions"]
    assert more.counts["aborted"] == 4 * more.counts["committed"]


def test_groups_without_variance_are_refilled():
    setup = replace(SMALL, lengths=LONG_TAILED)
    none = simulate(setup, PARTS, steps=60)
    third = simulate(replace(setup, dropped=1 / 3), PARTS, steps=60)
    assert none.counts["dropped"] == 0
    assert third.counts["dropped"] == pytest.approx(third.counts["committed"] / 2, rel=0.4)
    assert third.step_s > none.step_s


def test_a_seed_repeats_and_another_differs():
    setup = replace(SMALL, lengths=LONG_TAILED, max_staleness=1)
    assert simulate(setup, PARTS, seed=3) == simulate(setup, PARTS, seed=3)
    assert simulate(setup, PARTS, seed=3) != simulate(setup, PARTS, seed=4)


@settings(max_examples=60, deadline=None)
@given(
    engines=st.integers(1, 4),
    slots=st.sampled_from([2, 8, 64]),
    learners=st.integers(1, 3),
    pages=st.integers(1, 6),
    staleness=st.integers(0, 3),
    oversample=st.integers(0, 2),
    dropped=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 99),
)
def test_work_is_neither_lost_nor_invented(
    engines, slots, learners, pages, staleness, oversample, dropped, seed
):
    setup = Setup(
        engines, slots, learners, 2, pages, 3, LONG_TAILED, 50, oversample, staleness, dropped
    )
    steps = 12
    found = simulate(setup, PARTS, steps=steps, seed=seed)
    counts = found.counts
    closed = counts["committed"] + counts["dropped"]
    assert counts["committed"] == steps * pages
    assert counts["issued"] == closed + counts["open"]
    # the ledger's bound: what is open was issued under the weights that engines hold
    assert 0 <= counts["open"] <= (1 + staleness) * pages
    assert counts["completions"] >= 3 * closed
    assert counts["completions"] <= 3 * counts["issued"]
    for idle in (found.engines_idle, found.learners_idle, found.scorers_idle):
        assert 0.0 <= idle <= 1.0
    assert sum(found.shares.values()) == pytest.approx(1.0)
    # a part cannot do more than its busy time allows
    assert found.step_s >= pages * PARTS.learn_page / learners


class Audited(_Run):
    """A simulation whose every move the real ledger repeats; it refuses what breaks its bound."""

    def __init__(self, setup, seed):
        super().__init__(setup, PARTS, seed)
        self.ledger = Ledger(setup.pages_per_step, setup.max_staleness)
        self.ledger.engines_hold(PolicyVersion(0, 0))

    def issue(self, now):
        before = self.counts["issued"]
        super().issue(now)
        for number in range(before + 1, self.counts["issued"] + 1):
            self.ledger.issue(0, number, f"page {number}")
        assert self.ledger.issuable() == 0

    def scored(self, group, now):
        assert self.ledger.ready(name(group), PolicyVersion(0, group.version))
        super().scored(group, now)

    def drop(self, now, group):
        assert self.ledger.drop(name(group), "dropped")
        super().drop(now, group)

    def learning(self, groups):
        assert self.ledger.lease(str(self.version)) == [name(group) for group in groups]
        return super().learning(groups)

    def learned(self, now):
        self.ledger.commit(str(self.version), PolicyVersion(0, self.version + 1))
        super().learned(now)

    def synced(self, now):
        self.ledger.engines_hold(PolicyVersion(0, self.version))
        super().synced(now)


def name(group):
    return f"0-{group.number}-0"


@pytest.mark.parametrize("staleness", [0, 1, 3])
@pytest.mark.parametrize("dropped", [0.0, 0.3])
def test_the_real_ledger_agrees_with_every_move(staleness, dropped):
    setup = replace(
        SMALL,
        engines=2,
        slots=8,
        pages_per_step=4,
        lengths=LONG_TAILED,
        max_staleness=staleness,
        dropped=dropped,
    )
    run = Audited(setup, seed=staleness)
    run.play(40)
    counts = run.ledger.counts
    assert counts["committed"] == run.counts["committed"] == 160
    assert "dropped/stale" not in counts
    assert counts.get("dropped/dropped", 0) == run.counts["dropped"]
