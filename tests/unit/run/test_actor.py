"""What every run's actor keeps between Driver and learner ranks (without Ray)."""

import asyncio

from olmrl.metrics import Mean, Sum, flatten
from olmrl.run.actor import RunActor


class Actor(RunActor):
    """The base, as a learner sees it that begins and may wait for a door to open."""

    open = False

    async def begin(self, step=0, after=0):
        return self._begin(step, after=after)

    async def ask(self, evaluation):
        self._request(evaluation)

    async def enter(self):
        return await self._until(lambda: self.open)

    async def unlock(self):
        self.open = True
        self._notify()


async def soon(waiting):
    """Whether a task ends without anything else happening."""
    await asyncio.sleep(0.01)
    return waiting.done()


def test_a_row_is_whole_when_all_ranks_have_reported():
    async def story():
        actor = Actor(2)
        incarnation = await actor.begin()
        await actor.report(1, 1, {"loss": Mean(6.0, 2.0), "tokens": Sum(3)}, (("step", 1.0, 2.0),))
        assert await actor.rows(incarnation) == []
        await actor.report(1, 0, {"loss": Mean(1.0, 1.0), "tokens": Sum(4)})
        (row,) = await actor.rows(incarnation)
        assert (row.step, flatten(row.measured)) == (1, {"loss": 7.0 / 3.0, "tokens": 7})
        assert row.spans == ((0, ()), (1, (("step", 1.0, 2.0),)))
        assert await actor.rows(incarnation - 1) == []

    asyncio.run(story())


def test_what_a_learner_says_is_handed_over_once():
    async def story():
        actor = Actor(1)
        await actor.say(["a", "b"])
        assert (await actor.view()).said == 2
        assert await actor.said() == ["a", "b"]
        assert (await actor.view()).said == 0 and await actor.said() == []

    asyncio.run(story())


def test_a_checkpoint_waits_for_the_rows_of_its_step():
    async def story():
        actor = Actor(2)
        incarnation = await actor.begin()
        await actor.report(1, 0, {})
        waiting = asyncio.create_task(actor.all_written())
        assert not await soon(waiting)  # the other rank has not reported
        await actor.report(1, 1, {})
        assert not await soon(waiting)
        await actor.rows_written(incarnation - 1, 1)  # of a learner that is gone
        assert not await soon(waiting)
        await actor.rows_written(incarnation, 1)
        await asyncio.wait_for(waiting, 1.0)
        assert await actor.rows(incarnation) == []

    asyncio.run(story())


def test_a_view_waits_for_a_change():
    async def story():
        actor = Actor(1)
        known = (await actor.view()).serial
        waiting = asyncio.create_task(actor.view(known, 5.0))
        assert not await soon(waiting)
        await actor.begin(3)
        view = await waiting
        assert (view.incarnation, view.first_step, view.finished) == (1, 3, False)
        assert (await actor.view(view.serial, 0.01)).serial == view.serial
        await actor.finish()
        assert (await actor.view()).finished

    asyncio.run(story())


def test_an_evaluation_is_handed_over_once_to_a_driver_that_knows_the_start():
    async def story():
        actor = Actor(2)
        new = await actor.begin()
        for _ in range(2):  # both ranks ask
            await actor.ask("evaluation of step 0")
        assert (await actor.view()).requests == 1
        assert await actor.requests(new - 1) == []
        assert await actor.requests(new) == ["evaluation of step 0"]
        await actor.ask("evaluation of step 0")
        assert await actor.requests(new) == []

    asyncio.run(story())


def test_a_new_start_forgets_what_was_said_to_the_old_one():
    async def story():
        actor = Actor(2)
        old = await actor.begin()
        await actor.report(1, 0, {})
        await actor.report(1, 1, {})
        await actor.report(2, 0, {})
        await actor.ask("evaluation")
        await actor.finish()
        dead = asyncio.create_task(actor.enter())
        await asyncio.sleep(0)
        new = await actor.begin(1)
        assert new == old + 1 and not await dead
        view = await actor.view()
        assert (view.rows, view.requests, view.finished) == (0, 0, False)
        await asyncio.wait_for(actor.all_written(), 1.0)
        living = asyncio.create_task(actor.enter())
        assert not await soon(living)
        await actor.unlock()
        assert await living
        assert await actor.begin(1, after=7) == 8  # a checkpoint of a job before this one

    asyncio.run(story())


def test_a_run_that_is_asked_to_stop_says_so():
    async def story():
        actor = Actor(1)
        assert not await actor.stopping()
        await actor.stop()
        assert await actor.stopping()

    asyncio.run(story())
