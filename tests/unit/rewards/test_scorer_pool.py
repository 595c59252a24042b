"""The pool of scorer processes: whole groups, deadlines that kill, retries, shared work."""

import os
import time
from pathlib import Path

import pytest
import ray
from reward_pages import completion, group, page

from olmrl.config.schema import RewardConfig, ScorerConfig
from olmrl.metrics import flatten
from olmrl.rewards.pool import ScorerPool, ScoringFailure
from olmrl.types import PromptGroup

REFERENCE = "the quick brown fox"


@pytest.fixture(scope="module", autouse=True)
def cluster():
    with pytest.MonkeyPatch.context() as patch:  # workers must find own_rewards too
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def start():
    pools = []

    def make(rewards, group_size=2, **scorer):
        settings = {"workers": 1, "cpus_per_worker": 0.5, "timeout_s": 30.0} | scorer
        configs = [
            r if isinstance(r, RewardConfig) else RewardConfig(name=r[0], options=r[1])
            for r in rewards
        ]
        pools.append(ScorerPool(configs, ScorerConfig(**settings), group_size))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def gather(pool, count, seconds=120):
    found = []
    end = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < end:
        found += pool.poll(0.5)
    return found


def submit(pool, completions, the_page):
    for one in completions:
        pool.submit(one.group_id, the_page, one)


def test_groups_come_back_whole_and_in_order(start):
    pool = start([("edit_distance", {}), ("medoid", {}), ("eos", {})], group_size=3, workers=2)
    ref = ray.put(page(reference=REFERENCE))
    one = group(REFERENCE, "the quick", "the quick", group_id="one")
    two = group("", REFERENCE, REFERENCE + "x", group_id="two")
    submit(pool, [one[2], two[0], one[0], two[2]], ref)
    assert pool.poll(0.2) == []
    submit(pool, [two[1], one[1], one[1]], ref)
    found = {g.group_id: g for g in gather(pool, 2)}
    assert all(isinstance(g, PromptGroup) for g in found.values())
    assert [r.completion.index for r in found["one"].rollouts] == [0, 1, 2]
    assert [r.completion.text for r in found["two"].rollouts] == [c.text for c in two]
    assert found["one"].page_id == "a.pdf::1"
    assert found["one"].page == ref
    values = found["one"].rollouts[1].rewards
    assert values["edit_distance"].value == pytest.approx(1 - 10 / (19 + 9))
    assert values["medoid"].value == 1.0
    assert found["one"].rollouts[0].rewards["medoid"].value == 0.0
    assert pool.in_work == 0
    assert pool.poll(0.0) == []


def test_equal_completions_cost_one_call(start, tmp_path):
    pool = start([("own_rewards:counting", {"folder": str(tmp_path)})], group_size=6)
    submit(pool, group("ab", "ab", "ab", "ab", "c", "ab"), page())
    (result,) = gather(pool, 1)
    assert [r.total for r in result.rollouts] == [2, 2, 2, 2, 1, 2]
    assert len(list(tmp_path.iterdir())) == 2
    assert flatten(pool.measurements())["reward/shared_completions"] == 4


def test_deadline_kills_and_only_the_hanging_group_fails(start, tmp_path):
    options = {"folder": str(tmp_path)}
    pool = start([("own_rewards:moody", options)], timeout_s=2.0, retries=1)
    submit(pool, group("fine", "hang", group_id="bad"), page())
    submit(pool, group("also fine", "good", group_id="good"), page())
    found = {g.group_id: g for g in gather(pool, 2)}
    assert isinstance(found["bad"], ScoringFailure)
    assert "after 2 attempts" in found["bad"].reason
    assert "within 2 s" in found["bad"].reason
    assert not found["bad"].permanent
    assert [r.total for r in found["good"].rollouts] == [1.0, 1.0]
    measured = flatten(pool.measurements())
    assert measured["reward/timeouts"] == 2
    assert measured["reward/retries"] == 1
    assert measured["reward/failed_groups"] == 1
    late = completion("late", 1, "bad")
    pool.submit("bad", page(), late)
    assert pool.in_work == 0


def test_a_driver_that_is_busy_elsewhere_causes_no_timeouts(start, tmp_path):
    options = {"folder": str(tmp_path)}
    pool = start([("own_rewards:moody", options)], timeout_s=1.5, group_size=8)
    submit(pool, group("fine", *["fine"] * 7, group_id="warm up"), page())
    gather(pool, 1)
    submit(pool, group(*(f"nap {i}" for i in range(8))), page())
    time.sleep(2.5)
    (result,) = gather(pool, 1)
    assert [r.total for r in result.rollouts] == [1.0] * 8
    assert flatten(pool.measurements())["reward/timeouts"] == 0


def test_one_failure_is_forgiven(start, tmp_path):
    pool = start([("own_rewards:moody", {"folder": str(tmp_path)})], timeout_s=3.0, group_size=3)
    submit(pool, group("die once", "hang once", "fine"), page())
    (result,) = gather(pool, 1)
    assert [r.total for r in result.rollouts] == [1.0, 1.0, 1.0]
    measured = flatten(pool.measurements())
    assert measured["reward/worker_deaths"] == 1
    assert measured["reward/timeouts"] == 1


def test_reward_that_raises_fails_the_group_with_its_words(start, tmp_path):
    pool = start([("own_rewards:moody", {"folder": str(tmp_path)}), ("eos", {})])
    submit(pool, group("fine", "raise"), page())
    (result,) = gather(pool, 1)
    assert isinstance(result, ScoringFailure)
    assert "completion 1: own_rewards:moody: RuntimeError: not today" in result.reason
    assert result.page_id == "a.pdf::1"


def test_unusable_page_is_permanent_and_not_retried(start):
    pool = start([("edit_distance", {})])
    submit(pool, group("a", "b"), page())
    (result,) = gather(pool, 1)
    assert result.permanent
    assert "no reference text" in result.reason
    assert flatten(pool.measurements())["reward/retries"] == 0


def test_too_long_completion_fails_unparsed(start):
    pool = start([("eos", {})], max_completion_chars=100)
    submit(pool, group("a", "b" * 101), page())
    (result,) = gather(pool, 1)
    assert result.reason == "completion 1 has 101 characters, allowed are 100"


def test_memory_of_a_worker_is_bounded(start):
    options = {"gigabytes": 1.5}
    pool = start([("own_rewards:greedy_for_memory", options)], max_memory_gb=0.5)
    submit(pool, group("big", "small"), page())
    submit(pool, group("small", "smaller", group_id="next"), page())
    found = {g.group_id: g for g in gather(pool, 2)}
    assert "MemoryError" in found["g"].reason
    assert [r.total for r in found["next"].rollouts] == [1.0, 1.0]


def test_forgotten_group_is_not_reported(start):
    pool = start([("eos", {})])
    submit(pool, group("a", group_id="gone"), page())
    pool.forget("gone")
    submit(pool, group("b", "c", group_id="here"), page())
    pool.submit("gone", page(), completion("z", 1, "gone"))
    assert [g.group_id for g in gather(pool, 1)] == ["here"]
    assert pool.in_work == 0


def test_wrong_reward_is_refused_before_any_process_starts():
    with pytest.raises(ValueError, match="did you mean 'eos'"):
        ScorerPool([RewardConfig(name="eoss")], ScorerConfig(), 2)


def test_reward_that_workers_cannot_import_is_named(start, tmp_path, monkeypatch):
    (tmp_path / "only_in_the_driver.py").write_text("def one(page, group):\n    return [1.0]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    pool = start([("only_in_the_driver:one", {})])
    with pytest.raises(ValueError, match=r"cannot start.*No module named 'only_in_the_driver'"):
        gather(pool, 1)
