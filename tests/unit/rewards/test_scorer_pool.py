"""The pool of scorer processes: whole groups, deadlines that kill, retries, shared work."""

import dataclasses
import time

import hostile_texts
import pytest
import ray
from reward_pages import HEAD, completion, group, page, test_row

from olmrl.config.registered import REWARDS
from olmrl.config.schema import RewardConfig, ScorerConfig
from olmrl.metrics import flatten
from olmrl.rewards.pool import ScorerPool, ScoringFailure
from olmrl.types import PolicyVersion, PromptGroup, VersionSpan

REFERENCE = "the quick brown fox"


def make(rewards, group_size=2, **scorer):
    settings = {"workers": 1, "cpus_per_worker": 0.5, "timeout_s": 60.0} | scorer
    configs = [RewardConfig(name=name, options=options) for name, options in rewards.items()]
    return ScorerPool(configs, ScorerConfig(**settings), group_size)


@pytest.fixture(scope="module", autouse=True)
def cluster(ray_job):
    with ray_job(cpus=4):
        yield


@pytest.fixture(scope="module")
def all_rewards(cluster):
    """Every reward of olmrl, two workers, groups of three."""
    pool = make({name: {} for name in REWARDS.paths}, group_size=3, workers=2, max_memory_gb=1.0)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def moody_pool(cluster, tmp_path_factory):
    """One worker whose reward hangs, dies or raises when the text says so; groups of two."""
    folder = str(tmp_path_factory.mktemp("moody"))
    pool = make({"own_rewards:moody": {"folder": folder}}, timeout_s=2.0)
    yield pool
    pool.close()


@pytest.fixture
def moody(moody_pool):
    moody_pool.measurements()
    return moody_pool


@pytest.fixture
def start(cluster):
    pools = []

    def make_and_remember(*arguments, **settings):
        pools.append(make(*arguments, **settings))
        return pools[-1]

    yield make_and_remember
    for pool in pools:
        pool.close()


def gather(pool, count, seconds=240):
    found = []
    end = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < end:
        found += pool.poll(0.5)
    return {item.group_id: item for item in found}


def submit(pool, completions, the_page):
    for one in completions:
        pool.submit(one.group_id, the_page, one)


def totals(item):
    assert isinstance(item, PromptGroup), item
    return [r.total for r in item.rollouts]


def test_groups_come_back_whole_and_in_order(all_rewards):
    ref = ray.put(page(reference=REFERENCE))
    one = group(REFERENCE, "the quick", "the quick", group_id="one")
    two = group("", REFERENCE, REFERENCE + "x", group_id="two")
    submit(all_rewards, [one[2], two[0], one[0], two[2]], ref)
    assert all_rewards.poll(0.2) == []
    submit(all_rewards, [two[1], one[1], one[1]], ref)
    found = gather(all_rewards, 2)
    assert [r.completion.index for r in found["one"].rollouts] == [0, 1, 2]
    assert [r.completion.text for r in found["two"].rollouts] == [c.text for c in two]
    assert found["one"].page_id == "a.pdf::1"
    assert found["one"].page == ref
    values = found["one"].rollouts[1].rewards
    assert values["edit_distance"].value == pytest.approx(9 / 19)  # read / the reference
    assert values["medoid"].value == 1.0
    assert found["one"].rollouts[0].rewards["medoid"].value == 0.0
    assert "bench" not in values  # the page has no unit tests
    assert all_rewards.poll(0.0) == []


def test_hostile_completions_are_scored_within_bounds(all_rewards):
    """None may time out: the parsers bound the work, the deadline is for what nobody thought of."""
    truth = HEAD + "# a heading\n\na quite ordinary sentence of the page"
    ref = ray.put(page(truth, hostile_texts.TESTS))
    all_rewards.measurements()
    for name, text in hostile_texts.TEXTS.items():
        for index, said in enumerate((HEAD, text, truth)):
            all_rewards.submit(name, ref, completion(said, index, name, token_ids=[index]))
    found = gather(all_rewards, len(hostile_texts.TEXTS), seconds=600)
    for name in hostile_texts.TEXTS:
        assert isinstance(found[name], PromptGroup), found[name]
        verdicts = found[name].rollouts[1].rewards["bench"].verdicts
        passed = {v.test_id for v in verdicts if v.passed}
        assert passed <= {"a", "b"}, name  # nothing that asks for content
    measured = flatten(all_rewards.measurements())
    assert measured["reward/timeouts"] == 0
    assert measured["reward/worker_deaths"] == 0


def test_a_completion_that_is_too_long_gets_the_lowest_rewards_and_its_siblings_are_scored(
    all_rewards,
):
    all_rewards.measurements()
    made = group(REFERENCE, "b" * 10_000_000, "the quick", group_id="long")
    submit(all_rewards, made, page(reference=REFERENCE))
    fine, long, other = gather(all_rewards, 1)["long"].rollouts
    assert fine.total > other.total > long.total == 0.0
    assert set(long.rewards) == set(fine.rewards)
    assert fine.rewards["medoid"].value == 1.0  # of the two that can be scored
    assert {result.error for result in long.rewards.values()} == {
        "completion 1 has 10000000 characters, at most 200000 are allowed"
    }
    assert flatten(all_rewards.measurements())["reward/unscorable_completions"] == 1


def test_the_lowest_reward_is_below_every_sibling(start):
    pool = start({"own_rewards:below_zero": {}}, group_size=3, max_completion_chars=100)
    submit(pool, group("a", "b" * 1000, "c" * 7), page())
    assert totals(gather(pool, 1)["g"]) == [-1.0, -7.0, -7.0]


def test_a_group_of_which_nothing_can_be_scored_fails(all_rewards):
    submit(all_rewards, group(*("b" * 300_000 + end for end in "xyz"), group_id="all"), page())
    failure = gather(all_rewards, 1)["all"]
    assert isinstance(failure, ScoringFailure)
    assert "no completion can be scored: completion 0 has 300001 characters" in failure.reason


def test_unusable_page_is_permanent_and_not_retried(all_rewards):
    all_rewards.measurements()
    broken = page(tests=[test_row("math", "bad", math="\\frac{1")])
    submit(all_rewards, group("a", "b", "c", group_id="broken"), broken)
    failure = gather(all_rewards, 1)["broken"]
    assert isinstance(failure, ScoringFailure)
    assert failure.permanent
    assert "'bad'" in failure.reason
    assert flatten(all_rewards.measurements())["reward/retries"] == 0


def test_forgotten_group_is_not_reported(all_rewards):
    submit(all_rewards, group("a", "b", group_id="gone"), page())
    all_rewards.forget("gone")
    submit(all_rewards, group("b", "c", "d", group_id="here"), page())
    all_rewards.submit("gone", page(), completion("z", 2, "gone"))
    assert list(gather(all_rewards, 1)) == ["here"]
    assert all_rewards.poll(0.2) == []


def test_a_text_that_stalls_every_process_is_its_own_failure(moody):
    submit(moody, group("fine", "hang", group_id="bad"), page())
    submit(moody, group("also fine", "good", group_id="good"), page())
    found = gather(moody, 2)
    assert totals(found["good"]) == [1.0, 1.0]
    assert totals(found["bad"]) == [1.0, 0.0]
    (result,) = found["bad"].rollouts[1].rewards.values()
    assert not result.failed
    assert "after 2 attempts: no result within 2 s" in result.error
    measured = flatten(moody.measurements())
    assert measured["reward/timeouts"] == 2
    assert measured["reward/retries"] == 1
    assert measured["reward/failed_groups"] == 0
    assert measured["reward/unscorable_completions"] == 1
    submit(moody, group("late", "too late", group_id="bad"), page())
    assert moody.poll(1.0) == []


def test_a_text_that_kills_every_process_is_its_own_failure(moody):
    submit(moody, group("die", "fine", group_id="deadly"), page())
    found = gather(moody, 1)["deadly"]
    assert totals(found) == [0.0, 1.0]
    (result,) = found.rollouts[0].rewards.values()
    assert "after 2 attempts: the scorer process died" in result.error
    assert "causes" not in result.error


def test_a_reward_that_never_returns_fails_the_group(moody):
    submit(moody, group("hang", "hang", group_id="stuck"), page())
    failure = gather(moody, 1)["stuck"]
    assert isinstance(failure, ScoringFailure)
    assert "no completion can be scored" in failure.reason
    assert "within 2 s" in failure.reason
    assert not failure.permanent


def test_one_failure_is_forgiven(moody):
    submit(moody, group("die once", "hang once", group_id="lucky"), page())
    assert totals(gather(moody, 1)["lucky"]) == [1.0, 1.0]
    measured = flatten(moody.measurements())
    assert measured["reward/worker_deaths"] == 1
    assert measured["reward/timeouts"] == 1


def test_reward_that_raises_fails_the_group_with_its_words(moody):
    submit(moody, group("fine", "raise", group_id="angry"), page())
    failure = gather(moody, 1)["angry"]
    assert isinstance(failure, ScoringFailure)
    assert "completion 1: own_rewards:moody: RuntimeError: not today" in failure.reason
    assert failure.page_id == "a.pdf::1"


def test_a_driver_that_is_busy_elsewhere_causes_no_timeouts(moody):
    submit(moody, group("fine", "fine", group_id="warm up"), page())
    gather(moody, 1)
    for i in range(4):
        submit(moody, group(f"nap {2 * i}", f"nap {2 * i + 1}", group_id=f"nap {i}"), page())
    time.sleep(3.5)
    found = gather(moody, 4)
    assert [totals(item) for item in found.values()] == [[1.0, 1.0]] * 4
    assert flatten(moody.measurements())["reward/timeouts"] == 0


def test_equal_completions_cost_one_call(start, tmp_path):
    pool = start({"own_rewards:counting": {"folder": str(tmp_path)}}, group_size=6)
    submit(pool, group("ab", "ab", "ab", "ab", "c", "ab"), page())
    assert totals(gather(pool, 1)["g"]) == [2, 2, 2, 2, 1, 2]
    assert len(list(tmp_path.iterdir())) == 2
    assert flatten(pool.measurements())["reward/shared_completions"] == 4


def test_memory_of_a_worker_is_bounded(start):
    pool = start({"own_rewards:greedy_for_memory": {"gigabytes": 1.5}}, max_memory_gb=0.5)
    submit(pool, group("big", "small"), page())
    submit(pool, group("small", "smaller", group_id="next"), page())
    found = gather(pool, 2)
    assert "MemoryError" in found["g"].reason
    assert totals(found["next"]) == [1.0, 1.0]


def test_wrong_reward_is_refused_before_any_process_starts():
    with pytest.raises(ValueError, match="did you mean 'eos'"):
        ScorerPool([RewardConfig(name="eoss")], ScorerConfig(), 2)


def test_a_process_that_dies_while_it_starts_is_replaced(start, tmp_path):
    pool = start({"own_rewards:Frail": {"folder": str(tmp_path), "deaths": 2}})
    submit(pool, group("a", "b", group_id="g"), page())
    assert totals(gather(pool, 1)["g"]) == [1.0, 1.0]
    assert flatten(pool.measurements())["reward/worker_deaths"] == 2


def test_processes_that_keep_dying_end_the_run(start, tmp_path):
    pool = start({"own_rewards:Frail": {"folder": str(tmp_path), "deaths": 9}})
    with pytest.raises(ValueError, match="a scorer process cannot start"):
        gather(pool, 1)


def test_scoring_goes_on_while_a_process_waits_for_room(start, monkeypatch):
    pool = start({"own_rewards:length": {}}, workers=2, cpus_per_worker=2.5)  # of 4 CPUs
    submit(pool, group("a", "b", group_id="first"), page())
    gather(pool, 1)
    monkeypatch.setattr("olmrl.rewards.pool.START_TIMEOUT_S", 0.5)
    time.sleep(1.0)
    submit(pool, group("c", "d", group_id="second"), page())
    assert totals(gather(pool, 1)["second"]) == [1.0, 1.0]


def test_reward_that_workers_cannot_import_is_named(start, tmp_path, monkeypatch):
    (tmp_path / "only_in_the_driver.py").write_text("def one(page, group):\n    return [1.0]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    pool = start({"only_in_the_driver:one": {}})
    with pytest.raises(ValueError, match=r"cannot start.*No module named 'only_in_the_driver'"):
        gather(pool, 1)


def test_a_groups_oldest_weights_decide_its_curriculum(cluster):
    curriculum = {"type/order": {0: 0, 10: 1}}
    configs = [RewardConfig(name="bench", curriculum=curriculum)]
    pool = ScorerPool(configs, ScorerConfig(workers=1, cpus_per_worker=0.5), 2)
    tests = [
        test_row("present", "p", text="alpha"),
        test_row("order", "o", before="alpha", after="beta"),
    ]
    spans = [VersionSpan(PolicyVersion(0, step), 0, 5) for step in (7, 5)]
    made = [
        dataclasses.replace(completion("alpha", index), versions=(span,))
        for index, span in enumerate(spans)
    ]
    submit(pool, made, page(tests=tests))
    (found,) = gather(pool, 1).values()
    measured = flatten(pool.measurements())
    pool.close()
    assert [r.total for r in found.rollouts] == pytest.approx([1 / 1.5] * 2)
    assert [r.rewards["bench"].value for r in found.rollouts] == [0.5, 0.5]
    assert measured["reward/bench/weight/type/order"] == 0.5
