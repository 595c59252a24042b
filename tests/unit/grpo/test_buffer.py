"""The buffer: leases wait, ranks share a batch, nothing is trained twice (without Ray)."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest

from olmrl.grpo.buffer import RolloutBuffer
from olmrl.grpo.group_cost import GroupCost
from olmrl.metrics import flatten
from olmrl.models.cost import CostModel
from olmrl.models.mrope import VisionTokens
from olmrl.types import Completion, PolicyVersion, PromptGroup, RewardResult, Rollout, VersionSpan

IMAGE = 9
TOKENS_ONLY = CostModel(1, 0, 0, 0, 0, 0, 0, 0)
COST = GroupCost(TOKENS_ONLY, VisionTokens(IMAGE, 2), page_once=True)


def group(group_id, rewards, version, length=4):
    rollouts = []
    for index, reward in enumerate(rewards):
        ids = np.arange(length + index, dtype=np.int32)
        completion = Completion(
            group_id, index, ids, np.zeros(len(ids), np.float32),
            (VersionSpan(version, 0, len(ids)),), "stop", "x", np.arange(5, dtype=np.int32),
        )  # fmt: skip
        rollouts.append(Rollout(completion, {"bench": RewardResult(reward)}, reward))
    return PromptGroup(group_id, f"page-{group_id}", tuple(rollouts))


def with_prompt(made, prompt_ids):
    rollouts = tuple(
        replace(r, completion=replace(r.completion, prompt_token_ids=prompt_ids))
        for r in made.rollouts
    )
    return replace(made, rollouts=rollouts)


async def started(batch_size=2, staleness=0, world=1):
    buffer = RolloutBuffer(batch_size, staleness, world, COST)
    version = await buffer.begin(None)
    await buffer.published(version)
    return buffer, version


async def fill(buffer, version, count, start=0):
    for index in range(start, start + count):
        group_id, _ = await buffer.issue(version.incarnation, 0, index, f"p{index}")
        assert await buffer.add(group(group_id, [0.0, 1.0], version), True) == "ready"


def test_lease_waits_for_a_whole_batch():
    async def run():
        buffer, version = await started()
        lease = asyncio.create_task(buffer.lease("b0", 0))
        await fill(buffer, version, 1)
        await asyncio.sleep(0)
        assert not lease.done()
        await fill(buffer, version, 1, start=1)
        taken = await lease
        assert [g.group_id for g in taken.groups] == ["0-0-1", "0-1-1"]
        assert taken.totals.tolist() == [[0.0, 1.0], [0.0, 1.0]]

    asyncio.run(run())


def test_what_is_kept_and_saved_of_the_pages_does_not_grow_with_the_epochs():
    """A run may make millions of groups without a restart; every checkpoint holds the ledger."""
    pages, epochs = 4, 6

    async def run():
        buffer, version = await started()
        assert await buffer.next_position(pages) == (0, 0)
        sizes = []
        for step in range(pages * epochs // 2):
            epoch, first = divmod(2 * step, pages)
            for index in (first, first + 1):
                group_id, _ = await buffer.issue(version.incarnation, epoch, index, f"p{index}")
                await buffer.add(group(group_id, [0.0, 1.0], version), True)
            await buffer.lease(f"b{step}", 0)
            version = PolicyVersion(version.incarnation, step + 1)
            await buffer.commit(f"b{step}", version)
            await buffer.published(version)
            snapshot, _ = await buffer.snapshot()
            sizes.append((snapshot["closed_epoch"], len(snapshot["closed"])))
        assert sizes == [pair for e in range(epochs) for pair in ((e, 2), (e + 1, 0))]
        assert await buffer.issue(version.incarnation, 0, 0, "p0") is None

    asyncio.run(run())


def test_ranks_share_a_batch_without_overlap():
    async def run():
        buffer, version = await started(batch_size=4, world=2)
        await fill(buffer, version, 4)
        shares = [await buffer.lease("b0", rank) for rank in (0, 1)]
        positions = sorted(p for share in shares for p in share.positions)
        assert positions == [0, 1, 2, 3]
        again = await buffer.lease("b0", 1)
        assert again is shares[1]

    asyncio.run(run())


def test_ranks_share_by_what_groups_cost_their_images_included():
    """Eight small pages with long texts, and one whose image costs as much as all of them."""
    per_patch = GroupCost(CostModel(1, 0, 0, 0, 2, 0, 0, 0), VisionTokens(IMAGE, 2), page_once=True)
    large = np.array([0, *[IMAGE] * 90, 1], np.int32)

    async def shares(cost):
        buffer = RolloutBuffer(9, 0, 2, cost)
        version = await buffer.begin(None)
        await buffer.published(version)
        for index in range(9):
            group_id, _ = await buffer.issue(version.incarnation, 0, index, f"p{index}")
            made = group(group_id, [0.0, 1.0], version, length=40)
            if index == 0:
                made = with_prompt(group(group_id, [0.0, 1.0], version, length=4), large)
            assert await buffer.add(made, True) == "ready"
        return [(await buffer.lease("b", rank)).positions for rank in (0, 1)]

    # per token the large page (92 + 9) is one of nearly equals (5 + 81)
    assert sorted(map(len, asyncio.run(shares(COST)))) == [4, 5]
    # its 360 patches at 2 each weigh 720, eight pages of 86 weigh 688
    assert sorted(asyncio.run(shares(per_patch))) == [(0,), tuple(range(1, 9))]


def test_cost_of_a_group_by_hand():
    version = PolicyVersion(0, 0)
    prompt = np.array([0, *[IMAGE] * 6, 1], np.int32)
    made = with_prompt(group("g", [0.0, 1.0], version, length=3), prompt)
    model = CostModel(
        token=1, pair=10, prediction=100, embed=1000, patch=0, window=0, merger=0, patch_pair=1e6
    )
    once, dense = (
        GroupCost(model, VisionTokens(IMAGE, 2), page_once) for page_once in (True, False)
    )
    # 8 + 3 + 4 tokens; pairs 36 + (6 + 24) + (10 + 32); 7 predictions; 24 patches
    assert once(made) == 15 + 10 * 108 + 100 * 7 + 1000 * 24 + 1e6 * 24**2
    assert dense(made) == 23 + 10 * (66 + 78) + 100 * 7 + 2 * (1000 * 24 + 1e6 * 24**2)


def test_the_next_epoch_knows_how_long_a_page_was_also_after_a_restart():
    async def run():
        buffer, version = await started(batch_size=1)
        group_id, seen = await buffer.issue(version.incarnation, 0, 0, "p0")
        assert seen is None
        made = replace(group(group_id, [0.0, 1.0], version, length=6), page_id="p0")
        await buffer.add(made, True)
        await buffer.lease("b0", 0)
        await buffer.commit("b0", PolicyVersion(version.incarnation, 1))
        snapshot, groups = await buffer.snapshot()
        again = await buffer.begin((json.loads(json.dumps(snapshot)), groups))
        await buffer.published(again)
        assert (await buffer.issue(again.incarnation, 1, 0, "p0"))[1] == 6.5

    asyncio.run(run())


def test_a_last_group_gone_stale_ends_the_run_and_no_rank_waits_for_ever():
    async def run():
        buffer, version = await started(batch_size=1)
        await fill(buffer, version, 1)
        await buffer.lease("b0", 0)
        following = PolicyVersion(version.incarnation, 1)
        await buffer.commit("b0", following)
        await buffer.published(following)
        group_id, _ = await buffer.issue(version.incarnation, 0, 1, "p1")
        waiting = asyncio.create_task(buffer.lease("b1", 0))
        assert await buffer.add(group(group_id, [0.0, 1.0], version), True) == "ready"
        await buffer.end_of_pages()
        assert await asyncio.wait_for(waiting, 1.0) is None
        assert await buffer.lease("b2", 0) is None

    asyncio.run(run())


def test_group_without_signal_is_dropped_and_its_place_refilled():
    async def run():
        buffer, version = await started()
        group_id, _ = await buffer.issue(version.incarnation, 0, 0, "p0")
        assert await buffer.add(group(group_id, [0.5, 0.5], version), True) == "zero_variance"
        assert (await buffer.view()).issuable == 2
        assert await buffer.add(group(group_id, [0.0, 1.0], version), True) == "void"

    asyncio.run(run())


def test_the_last_smaller_batch_is_leased_and_then_the_end():
    async def run():
        buffer, version = await started(batch_size=4)
        await fill(buffer, version, 3)
        await buffer.end_of_pages()
        assert len((await buffer.lease("b0", 0)).groups) == 3
        await buffer.commit("b0", PolicyVersion(version.incarnation, 1))
        assert await buffer.lease("b1", 0) is None

    asyncio.run(run())


def test_a_restart_keeps_ready_groups_and_voids_the_rest():
    async def run():
        buffer, version = await started(batch_size=1, staleness=2)
        await fill(buffer, version, 2)
        await buffer.lease("b0", 0)
        snapshot, groups = await buffer.snapshot()
        await buffer.commit("b0", PolicyVersion(version.incarnation, 1))
        late, _ = await buffer.issue(version.incarnation, 0, 2, "p2")
        again = await buffer.begin((json.loads(json.dumps(snapshot)), groups))
        assert again == PolicyVersion(version.incarnation + 1, 0)
        assert await buffer.add(group(late, [0.0, 1.0], version), True) == "void"
        await buffer.published(again)
        assert await buffer.issue(version.incarnation, 0, 2, "p2") is None  # of the old start
        assert await buffer.issue(again.incarnation, 0, 1, "p1") is None
        assert [g.group_id for g in (await buffer.lease("c0", 0)).groups] == ["0-0-1"]
        await buffer.commit("c0", PolicyVersion(again.incarnation, 1))
        await buffer.report(1, 0, {})
        (row,) = await buffer.rows(again.incarnation)
        # of the group that was ready in the checkpoint
        assert row.measured["reward/mean"].value() == pytest.approx(0.5)

    asyncio.run(run())


def test_a_run_that_is_stopped_gives_out_no_new_batch_and_waits_for_no_evaluation():
    async def run():
        buffer, version = await started(batch_size=1, world=2, staleness=1)
        await fill(buffer, version, 1)
        assert await buffer.lease("b0", 0) is not None
        evaluation = asyncio.create_task(buffer.evaluation_due(version))
        following = asyncio.create_task(buffer.lease("b1", 0))
        await asyncio.sleep(0)
        await buffer.stop()
        assert await following is None and await evaluation is None
        assert await buffer.lease("b0", 1) is not None  # what one rank has, all ranks get

    asyncio.run(run())


def test_engines_on_the_learners_gpus_sleep_between_lease_and_weights():
    async def run():
        buffer = RolloutBuffer(1, 0, 1, COST, colocated=True)
        version = await buffer.begin(None)
        await buffer.need_engines()  # they are awake at first
        await buffer.published(version)
        await fill(buffer, version, 1)
        lease = asyncio.create_task(buffer.lease("b0", 0))
        await asyncio.sleep(0)
        assert (await buffer.view()).sleep_due and not lease.done()
        await buffer.engines_sleep(True)
        assert (await lease).batch_id == "b0"
        weights = asyncio.create_task(buffer.need_engines())
        await asyncio.sleep(0)
        view = await buffer.view()
        assert view.wake_due and not view.sleep_due and not weights.done()
        await buffer.engines_sleep(False)
        await weights

    asyncio.run(run())


def test_the_learner_is_told_the_score_of_its_weights():
    async def run():
        buffer, version = await started()
        waiting = asyncio.create_task(buffer.evaluation_due(version))
        await asyncio.sleep(0)
        assert (await buffer.view()).requests == 1
        assert await buffer.requests(version.incarnation) == [version]
        await buffer.evaluated(version, 0.25)
        assert await waiting == 0.25

    asyncio.run(run())


def test_weights_are_evaluated_once_whoever_asks_again():
    """A rank that comes late, and a run that ends right after an evaluation."""

    async def run():
        buffer, version = await started(world=3)
        waiting = [asyncio.create_task(buffer.evaluation_due(version))]
        await asyncio.sleep(0)
        assert await buffer.requests(version.incarnation) == [version]
        waiting += [asyncio.create_task(buffer.evaluation_due(version))]  # while it is under way
        await asyncio.sleep(0)
        await buffer.evaluated(version, 0.25)
        assert await asyncio.gather(*waiting) == [0.25, 0.25]
        assert await asyncio.wait_for(buffer.evaluation_due(version), 1.0) == 0.25
        assert await buffer.requests(version.incarnation) == []

    asyncio.run(run())


def test_a_learner_that_went_back_has_its_weights_evaluated_anew():
    async def run():
        buffer, version = await started()
        orphan = asyncio.create_task(buffer.evaluation_due(version))
        await asyncio.sleep(0)
        again = await buffer.begin(None)
        assert await asyncio.wait_for(orphan, 1.0) is None
        assert await buffer.requests(again.incarnation) == []
        waiting = asyncio.create_task(buffer.evaluation_due(again))
        await asyncio.sleep(0)
        await buffer.evaluated(version, 0.25)  # of the learner that is gone
        await asyncio.sleep(0)
        assert not waiting.done() and await buffer.requests(again.incarnation) == [again]
        await buffer.evaluated(again, 0.5)
        assert await waiting == 0.5

    asyncio.run(run())


def test_a_rank_that_died_leases_nothing_from_the_learner_that_follows():
    async def run():
        buffer, _ = await started(batch_size=1)
        dead = asyncio.create_task(buffer.lease("1-0", 0))
        await asyncio.sleep(0)
        again = await buffer.begin(None)
        await buffer.published(again)
        await fill(buffer, again, 1)
        assert await asyncio.wait_for(dead, 1.0) is None
        assert len((await buffer.lease("2-0", 0)).groups) == 1

    asyncio.run(run())


def test_a_row_holds_what_the_commit_and_all_ranks_say_of_a_step():
    async def run():
        from olmrl.metrics import Sum

        buffer, version = await started(world=2)
        await fill(buffer, version, 2)
        await buffer.lease("b0", 0)
        await buffer.commit("b0", PolicyVersion(version.incarnation, 1))
        await buffer.report(1, 1, {"tokens": Sum(3)})
        assert await buffer.rows(version.incarnation) == []
        await buffer.report(1, 0, {"tokens": Sum(4)}, (("learner", 1.0, 2.0),))
        (row,) = await buffer.rows(version.incarnation)
        assert (row.step, row.measured["tokens"].value()) == (1, 7)
        assert row.measured["reward/mean"].value() == pytest.approx(0.5)
        assert row.measured["reward/frac_zero_std"].value() == 0.0
        assert [page[:2] for page in row.pages] == [(0, 0), (0, 1)]
        assert row.spans == ((0, (("learner", 1.0, 2.0),)), (1, ()))

    asyncio.run(run())


def test_a_checkpoint_waits_for_the_rows_of_its_step():
    async def run():
        buffer, version = await started(batch_size=1)
        await fill(buffer, version, 1)
        await buffer.lease("b0", 0)
        await buffer.commit("b0", PolicyVersion(version.incarnation, 1))
        waiting = asyncio.create_task(buffer.all_written())
        await asyncio.sleep(0.01)
        await buffer.report(1, 0, {})
        await asyncio.sleep(0.01)
        await buffer.rows_written(version.incarnation - 1, 1)  # of a learner that is gone
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await buffer.rows_written(version.incarnation, len(await buffer.rows(version.incarnation)))
        await asyncio.wait_for(waiting, 5.0)

    asyncio.run(run())


def test_what_was_dropped_while_a_batch_is_filled_is_counted_until_it_is_leased():
    async def run():
        buffer, version = await started(batch_size=1)
        for index, rewards in enumerate([[0.5, 0.5], [0.1, 0.1], None]):
            group_id, _ = await buffer.issue(version.incarnation, 0, index, f"p{index}")
            if rewards is None:
                assert await buffer.drop(group_id, "scoring_failed")
                assert not await buffer.drop(group_id, "scoring_failed"), "told twice, counted once"
            else:
                await buffer.add(group(group_id, rewards, version), True)
        await buffer.skip_page(0, 3, "bad_page")  # has its own limit
        view = await buffer.view()
        assert view.dropped == {"zero_variance": 2, "scoring_failed": 1} and view.ready == 0
        row = flatten(await buffer.refill_row())
        assert row["refill/dropped"] == 3.0 and row["refill/zero_variance"] == 2.0
        assert row["refill/reward/mean"] == pytest.approx(0.3)
        await fill(buffer, version, 1, start=4)
        assert (await buffer.view()).ready == 1
        await buffer.lease("b0", 0)
        assert (await buffer.view()).dropped == {}
        assert await buffer.dropped() == {"zero_variance": 2, "scoring_failed": 1}

    asyncio.run(run())


def test_a_restart_counts_the_drops_of_its_own_batch_only():
    async def run():
        buffer, version = await started(batch_size=1)
        group_id, _ = await buffer.issue(version.incarnation, 0, 0, "p0")
        await buffer.add(group(group_id, [0.5, 0.5], version), True)
        saved = await buffer.snapshot()
        assert (await buffer.view()).dropped == {"zero_variance": 1}
        await buffer.begin(saved)
        assert (await buffer.view()).dropped == {}
        assert await buffer.dropped() == {"zero_variance": 1}

    asyncio.run(run())
