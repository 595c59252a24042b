"""The feed between Driver and learner ranks: evaluations, and what a restart makes void."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import numpy as np
import pytest

from olmrl.data.items import ExampleNote, StreamItem
from olmrl.data.tally import Tally
from olmrl.evaluation.reading import PageReading
from olmrl.metrics import Mean, flatten
from olmrl.models.cost import CostModel
from olmrl.sft.feed import (
    TRAIN,
    EvaluationRequest,
    PagesUsed,
    PromptShare,
    StepFeed,
    StepShare,
    share_out,
)


def reading(number: int) -> PageReading:
    return PageReading(str(number), None, "not read")


def item(name: str, response: int, side: int) -> StreamItem:
    note = ExampleNote(name, 10, response, np.array([[1, side, side]]))
    return StreamItem(0, 0, note, f"block of {name}", 100 * side, 1)


def test_a_step_is_shared_out_by_cost_images_included():
    pages = [item("photo", 10, 20), *(item(f"text-{k}", 90, 2) for k in range(4))]
    cost = CostModel(1, 0, 0, 0, 1, 0, 0, 0)
    after = PagesUsed((1, 5))
    # 20 + 400 patches against four times 100 + 4
    heavy, light = share_out(pages, after, 2, cost)
    assert heavy.examples == ("block of photo",)
    assert light.examples == tuple(f"block of text-{k}" for k in range(4))
    assert heavy.moved["data/page_bytes"] == Mean(2000.0)
    assert light.moved["data/page_bytes"] == Mean(800.0, 4.0)
    assert light.moved["data/image_calls_per_page"].value() == 1.0
    assert heavy.after is light.after is after


async def soon(waiting: asyncio.Task) -> bool:
    """Whether a task ends without anything else happening."""
    await asyncio.sleep(0.01)
    return waiting.done()


def test_readings_of_all_ranks_come_by_number_and_scores_go_back():
    async def story() -> None:
        feed = StepFeed(2, 4)
        incarnation = await feed.begin(0, PagesUsed())
        await feed.evaluate(EvaluationRequest(0, True, True))
        assert await feed.requests(incarnation) == [EvaluationRequest(0, True, True)]
        assert await feed.requests(incarnation) == []
        shares = [PromptShare(()), PromptShare(())]
        assert await feed.put(incarnation, "read/0", 0, shares)
        assert await feed.take("read/0", 0, 1) is shares[1]
        waiting = asyncio.create_task(feed.readings(incarnation, 0))
        scores = [asyncio.create_task(feed.scores(0)) for _ in range(2)]
        await feed.have_read(0, [reading(10), reading(2)])
        assert not await soon(waiting)
        await feed.have_read(0, [reading(0)])
        assert [one.name for one in await waiting] == ["0", "2", "10"]
        assert not await soon(scores[0])
        await feed.scored(incarnation, 0, {"eval/reading": 0.5})
        assert await asyncio.gather(*scores) == [{"eval/reading": 0.5}] * 2
        (row,) = await feed.rows(incarnation)
        assert (row.step, flatten(row.measured)) == (0, {"eval/reading": 0.5})

    asyncio.run(story())


def test_a_learner_that_starts_again_makes_old_evaluations_void():
    async def story() -> None:
        feed = StepFeed(1, 4)
        old = await feed.begin(0, PagesUsed())
        waiting = asyncio.create_task(feed.readings(old, 0))
        await feed.evaluate(EvaluationRequest(0, False, True))
        progress = PagesUsed((0, 12), Tally(kept=12))
        new = await feed.begin(3, progress)
        assert await waiting is None
        assert await feed.requests(new) == []
        assert not await feed.put(old, "read/0", 0, [PromptShare(())])
        await feed.scored(old, 0, {"eval/reading": 0.5})
        assert await feed.rows(new) == []
        view = await feed.view()
        assert (view.incarnation, view.first_step, view.progress) == (new, 3, progress)

    asyncio.run(story())


def test_progress_survives_a_checkpoint_and_an_older_one_is_refused():
    progress = PagesUsed((1, 5), Tally(kept=3, bad=1, dropped=Counter({("Filter", "rule"): 2})))
    saved = json.loads(json.dumps(progress.as_json()))
    assert PagesUsed.from_json(saved) == progress
    del saved["tally"]
    with pytest.raises(ValueError, match="an older olmrl wrote it"):
        PagesUsed.from_json(saved)


def test_a_dead_rank_takes_no_share_of_the_learner_that_follows():
    async def story() -> None:
        feed = StepFeed(2, 4)
        await feed.begin(0, PagesUsed())
        dead = asyncio.create_task(feed.take(TRAIN, 0, 0))
        assert not await soon(dead)
        new = await feed.begin(0, PagesUsed())
        assert await dead is None
        shares = [StepShare((), PagesUsed((0, 4)), {}), StepShare((), PagesUsed((0, 4)), {})]
        assert await feed.put(new, TRAIN, 0, shares)
        for rank in range(2):
            assert await asyncio.wait_for(feed.take(TRAIN, 0, rank), 5) is shares[rank]

    asyncio.run(story())
