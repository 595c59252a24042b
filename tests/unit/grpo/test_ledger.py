"""The commit protocol, checked against an independent account under random events."""

import json
import random
from collections import Counter

import pytest

from olmrl.grpo.ledger import GroupState, Ledger
from olmrl.types import PolicyVersion


def make_ledger(batch_size, max_staleness):
    ledger = Ledger(batch_size, max_staleness)
    ledger.engines_hold(ledger.version)
    return ledger


def commit(ledger, batch_id):
    version = PolicyVersion(ledger.version.incarnation, ledger.version.step + 1)
    records = ledger.commit(batch_id, version)
    ledger.engines_hold(version)
    return [record.group_id for record in records]


def issue_and_ready(ledger, count, start=0):
    ids = [ledger.issue(0, start + i, f"p{start + i}") for i in range(count)]
    for group_id in ids:
        assert ledger.ready(group_id, ledger.version)
    return ids


def test_synchronous_bound_admits_one_batch_per_version():
    ledger = make_ledger(batch_size=2, max_staleness=0)
    ids = issue_and_ready(ledger, 2)
    assert not ledger.issuable()
    with pytest.raises(ValueError, match="staleness bound"):
        ledger.issue(0, 2, "p2")
    assert ledger.lease("b0") == ids
    ledger.commit("b0", PolicyVersion(0, 1))
    assert not ledger.issuable(), "the engines still hold the old weights"
    ledger.engines_hold(PolicyVersion(0, 1))
    assert ledger.issuable()


def test_dropped_group_frees_its_place_once():
    ledger = make_ledger(batch_size=2, max_staleness=0)
    first, _ = ledger.issue(0, 0, "a"), ledger.issue(0, 1, "b")
    assert ledger.drop(first, "zero_variance")
    assert not ledger.drop(first, "zero_variance")
    ledger.issue(0, 2, "c")
    assert not ledger.issuable()


def test_lease_is_repeatable_and_in_issue_order():
    ledger = make_ledger(batch_size=2, max_staleness=1)
    ids = [ledger.issue(0, i, str(i)) for i in range(4)]
    for group_id in reversed(ids):
        ledger.ready(group_id, ledger.version)
    assert ledger.lease("b0") == ids[:2] == ledger.lease("b0")
    assert ledger.lease("b1") == ids[2:]


def test_fast_groups_pass_slow_ones_until_these_are_due():
    ledger = make_ledger(batch_size=2, max_staleness=1)
    slow, *fast = [ledger.issue(0, i, str(i)) for i in range(4)]
    for group_id in fast:
        ledger.ready(group_id, ledger.version)
    assert ledger.lease("b0") == fast[:2]
    commit(ledger, "b0")
    newer = [ledger.issue(0, i, str(i)) for i in (4, 5)]
    for group_id in newer:
        ledger.ready(group_id, ledger.version)
    # three are ready, but what the first weights started is admitted for the last time now
    assert ledger.lease("b1") is None
    ledger.ready(slow, PolicyVersion(0, 0))
    assert ledger.lease("b1") == [slow, fast[2]]
    commit(ledger, "b1")
    assert ledger.counts.get("dropped/stale") is None


def test_a_due_group_goes_before_newer_ones_that_were_issued_earlier():
    ledger = make_ledger(batch_size=1, max_staleness=1)
    first, second = ledger.issue(0, 0, "a"), ledger.issue(0, 1, "b")
    ledger.ready(second, PolicyVersion(0, 0))
    ledger.ready(first, PolicyVersion(0, 1))  # its first token came after an update
    ledger.version = PolicyVersion(0, 1)
    assert ledger.lease("b") == [second]


def test_stale_group_is_dropped_at_lease():
    ledger = make_ledger(batch_size=1, max_staleness=1)
    for step in range(3):
        ledger.issue(0, step, str(step))
        ledger.ready(f"0-{step}-0", PolicyVersion(0, 0))
        if step < 2:
            assert ledger.lease(f"b{step}") == [f"0-{step}-0"]
            commit(ledger, f"b{step}")
    assert ledger.lease("b2") is None
    assert ledger.counts["dropped/stale"] == 1


def test_commit_needs_the_next_version():
    ledger = make_ledger(batch_size=1, max_staleness=0)
    issue_and_ready(ledger, 1)
    ledger.lease("b0")
    with pytest.raises(ValueError, match="expected"):
        ledger.commit("b0", PolicyVersion(0, 2))
    with pytest.raises(ValueError, match="not leased"):
        ledger.commit("other", PolicyVersion(0, 1))


def test_reports_from_before_a_restart_are_void():
    ledger = make_ledger(batch_size=1, max_staleness=1)
    group_id = ledger.issue(0, 0, "a")
    snapshot = json.loads(json.dumps(ledger.snapshot()))
    ledger.restore(snapshot, incarnation=1)
    assert not ledger.ready(group_id, PolicyVersion(0, 0))
    ledger.engines_hold(PolicyVersion(0, 0))
    assert not ledger.issuable(), "the engines hold weights of the lost incarnation"
    ledger.engines_hold(ledger.version)
    again = ledger.issue(0, 0, "a")
    assert again != group_id
    assert ledger.ready(again, ledger.version)


def test_restore_refuses_a_used_incarnation():
    ledger = make_ledger(batch_size=1, max_staleness=0)
    ledger.restore(ledger.snapshot(), incarnation=3)
    with pytest.raises(ValueError, match="used before"):
        ledger.restore(ledger.snapshot(), incarnation=3)


@pytest.mark.parametrize("seed", range(40))
def test_random_kills_delays_and_duplicates_close_every_page_once(seed):
    """Model check: an independent account of the surviving weights' training history."""
    rng = random.Random(seed)
    batch_size, staleness, pages = rng.randint(1, 4), rng.randint(0, 3), rng.randint(7, 25)
    ledger = make_ledger(batch_size, staleness)
    trained: Counter = Counter()  # positions in the weights that survive
    dropped: Counter = Counter()
    saved = (ledger.snapshot(), Counter(), Counter())
    incarnation = batches = 0
    mailbox: list = []  # delayed, duplicated, reordered reports

    def position(group_id):
        epoch, index, _ = group_id.split("-")
        return int(epoch), int(index)

    for _ in range(4000):
        event = rng.random()
        if event < 0.45 and ledger.issuable():
            epoch, index = ledger.next_position(pages)
            if epoch < 2:
                if rng.random() < 0.05:
                    assert ledger.skip_page(epoch, index, "bad_page")
                    dropped[epoch, index] += 1
                else:
                    group_id = ledger.issue(epoch, index, f"p{index}")
                    kind = "drop" if rng.random() < 0.2 else "ready"
                    mailbox += [(kind, group_id, ledger.version)] * rng.randint(1, 2)
        elif event < 0.75 and mailbox:
            kind, group_id, version = mailbox.pop(rng.randrange(len(mailbox)))
            if kind == "ready":
                ledger.ready(group_id, version)
            elif ledger.drop(group_id, "zero_variance"):
                dropped[position(group_id)] += 1
        elif event < 0.95:
            assert not ledger.drop_stale(), "a group that was due has been passed by"
            issued = ledger.open_groups(GroupState.ISSUED)
            finished = not issued and not mailbox and ledger.next_position(pages)[0] >= 2
            leased = ledger.lease(f"b{batches}", at_least=1 if finished else None)
            if leased:
                assert len(leased) <= batch_size
                for record in ledger.open_groups(GroupState.LEASED):
                    assert ledger.version.step - record.version.step <= staleness
                if rng.random() < 0.8:
                    for group_id in commit(ledger, f"b{batches}"):
                        trained[position(group_id)] += 1
                    if rng.random() < 0.4:
                        saved = (
                            json.loads(json.dumps(ledger.snapshot())),
                            trained.copy(),
                            dropped.copy(),
                        )
                    batches += 1
        elif event < 0.96:
            incarnation += 1
            ledger.restore(saved[0], incarnation)
            ledger.engines_hold(ledger.version)
            trained, dropped = saved[1].copy(), saved[2].copy()
            batches += 1
        ledger.close_epochs(pages)
    closed = trained + dropped
    assert all(count == 1 for count in closed.values()), closed
    for epoch in range(2):
        for index in range(pages):
            assert ledger.is_closed(epoch, index) == ((epoch, index) in closed)
    assert set(closed) == {(e, i) for e in range(2) for i in range(pages)}
