"""The feed between Driver and learner ranks: evaluations, and what a restart makes void."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import numpy as np
import pytest

from olmrl.data.encoded import EncodedExample
from olmrl.data.tally import Tally
from olmrl.metrics import Mean
from olmrl.models.cost import CostModel
from olmrl.sft.feed import (
    TRAIN,
    EvaluationRequest,
    Progress,
    PromptShare,
    StepFeed,
    StepShare,
    Transcript,
    share_out,
)
from olmrl.types import EncodedPage


def transcript(number: int) -> Transcript:
    return Transcript(number, np.asarray([number], np.int32), True)


def example(name: str, response: int, side: int) -> EncodedExample:
    ids = np.zeros(response, np.int64)
    pixels = np.zeros((side * side, 4), np.float32)
    page = EncodedPage(name, np.zeros(10, np.int64), pixels, np.array([[1, side, side]]))
    return EncodedExample(page, ids, ids)


def test_a_step_is_shared_out_by_cost_images_included():
    pages = [example("photo", 10, 20), *(example(f"text-{k}", 90, 2) for k in range(4))]
    cost = CostModel(1, 0, 0, 0, 1, 0, 0, 0)
    after = Progress((1, 5))
    # 20 + 400 patches against four times 100 + 4
    heavy, light = share_out(pages, after, 2, cost)
    assert [e.page.page_id for e in heavy.examples] == ["photo"]
    assert [e.page.page_id for e in light.examples] == [f"text-{k}" for k in range(4)]
    assert heavy.after is light.after is after


async def soon(waiting: asyncio.Task) -> bool:
    """Whether a task ends without anything else happening."""
    await asyncio.sleep(0.01)
    return waiting.done()


def test_transcripts_of_all_ranks_come_by_number_and_scores_go_back():
    async def story() -> None:
        feed = StepFeed(2, 4)
        incarnation = await feed.begin(0, Progress())
        await feed.evaluate(EvaluationRequest(0, True, True))
        assert await feed.requests(incarnation) == [EvaluationRequest(0, True, True)]
        assert await feed.requests(incarnation) == []
        shares = [PromptShare(()), PromptShare(())]
        assert await feed.put(incarnation, "read/0", 0, shares)
        assert await feed.take("read/0", 0, 1) is shares[1]
        waiting = asyncio.create_task(feed.transcripts(incarnation, 0))
        scores = [asyncio.create_task(feed.scores(0)) for _ in range(2)]
        await feed.transcribed(0, [transcript(1), transcript(2)])
        assert not await soon(waiting)
        await feed.transcribed(0, [transcript(0)])
        assert [one.number for one in await waiting] == [0, 1, 2]
        assert not await soon(scores[0])
        await feed.scored(incarnation, 0, {"eval/reading": 0.5})
        assert await asyncio.gather(*scores) == [{"eval/reading": 0.5}] * 2
        assert await feed.rows() == [(0, {"eval/reading": 0.5})]

    asyncio.run(story())


def test_a_learner_that_starts_again_makes_old_evaluations_void():
    async def story() -> None:
        feed = StepFeed(1, 4)
        old = await feed.begin(0, Progress())
        waiting = asyncio.create_task(feed.transcripts(old, 0))
        await feed.evaluate(EvaluationRequest(0, False, True))
        progress = Progress((0, 12), Tally(kept=12))
        new = await feed.begin(3, progress)
        assert await waiting is None
        assert await feed.requests(new) == []
        assert not await feed.put(old, "read/0", 0, [PromptShare(())])
        await feed.scored(old, 0, {"eval/reading": 0.5})
        assert await feed.rows() == []
        assert await feed.start(old) == (new, 3, progress)

    asyncio.run(story())


def test_a_request_waits_for_a_driver_that_knows_the_start():
    async def story() -> None:
        feed = StepFeed(1, 4)
        assert await feed.start(0) is None  # the Driver asks just before the learner begins
        new = await feed.begin(0, Progress())
        await feed.evaluate(EvaluationRequest(0, True, False))
        assert await feed.requests(0) == []
        assert await feed.start(0) == (new, 0, Progress())
        assert await feed.requests(new) == [EvaluationRequest(0, True, False)]

    asyncio.run(story())


def test_progress_survives_a_checkpoint_and_an_older_one_is_refused():
    progress = Progress((1, 5), Tally(kept=3, bad=1, dropped=Counter({("Filter", "rule"): 2})))
    saved = json.loads(json.dumps(progress.as_json()))
    assert Progress.from_json(saved) == progress
    del saved["tally"]
    with pytest.raises(ValueError, match="an older olmrl wrote it"):
        Progress.from_json(saved)


def test_a_dead_rank_takes_no_share_of_the_learner_that_follows():
    async def story() -> None:
        feed = StepFeed(2, 4)
        await feed.begin(0, Progress())
        dead = asyncio.create_task(feed.take(TRAIN, 0, 0))
        assert not await soon(dead)
        new = await feed.begin(0, Progress())
        assert await dead is None
        shares = [StepShare((), Progress((0, 4))), StepShare((), Progress((0, 4)))]
        assert await feed.put(new, TRAIN, 0, shares)
        for rank in range(2):
            assert await asyncio.wait_for(feed.take(TRAIN, 0, rank), 5) is shares[rank]

    asyncio.run(story())


def test_a_row_is_whole_when_all_ranks_have_reported():
    async def story() -> None:
        feed = StepFeed(2, 4)
        await feed.begin(0, Progress())
        await feed.report(1, {"loss/sft": Mean(6.0, 2.0)})
        assert await feed.rows() == []
        await feed.report(1, {"loss/sft": Mean(1.0, 1.0)})
        assert await feed.rows() == [(1, {"loss/sft": 7.0 / 3.0})]

    asyncio.run(story())


def test_a_checkpoint_waits_for_the_rows_of_its_step():
    async def story() -> None:
        feed = StepFeed(2, 4)
        incarnation = await feed.begin(0, Progress())
        await feed.report(1, {"loss/sft": Mean(6.0, 2.0)})
        waiting = asyncio.create_task(feed.all_written())
        assert not await soon(waiting)  # the other rank has not reported
        await feed.report(1, {"loss/sft": Mean(1.0, 1.0)})
        assert not await soon(waiting)
        await feed.rows_written(incarnation - 1, 1)  # of a learner that is gone
        assert not await soon(waiting)
        await feed.rows_written(incarnation, 1)
        await waiting
        assert await feed.rows() == []

    asyncio.run(story())
