"""The learning rate follows the pages that are used up, not the steps that were hoped for."""

import asyncio
import random

import numpy as np
import pytest
from test_buffer import group, started
from torch import nn

from olmrl.config.load import validate
from olmrl.config.schema import GrpoConfig, OptimizerConfig
from olmrl.grpo.worker import updates_used
from olmrl.learner.optim import build_optim, schedule_place
from olmrl.models.registry import FAMILIES

PAGES, PER_STEP = 200, 4


def config(**run):
    keys = {"model": {"path": "x"}, "data": {"train": "x"}, "run": run}
    return validate(GrpoConfig, keys | {"algorithm": {"pages_per_step": PER_STEP}}, "test")


def optim(total):
    settings = OptimizerConfig(lr=1.0, schedule="linear", warmup_steps=5)
    return build_optim(nn.Linear(2, 2), nn.Linear(1, 1), FAMILIES["qwen2_5_vl"], settings, total)


def rates(dropped, restart_at=None):
    """Rates of a run over PAGES pages of which a share carries no signal."""
    settings = config(epochs=1)
    total = settings.run.total_steps(PAGES, PER_STEP)
    without = set(random.Random(0).sample(range(PAGES), round(dropped * PAGES)))

    async def run():
        buffer, version = await started(batch_size=PER_STEP)
        schedule, found = optim(total), []
        while True:
            await buffer.published(version)
            while (await buffer.view()).issuable:
                epoch, index = await buffer.next_position(PAGES)
                if epoch:
                    await buffer.end_of_pages()
                    break
                group_id, _ = await buffer.issue(version.incarnation, 0, index, f"p{index}")
                reward = [0.5, 0.5] if index in without else [0.0, 1.0]
                await buffer.add(group(group_id, reward, version), True)
            lease = await buffer.lease(f"b{version}", 0)
            if lease is None:
                return found
            schedule.follow(updates_used(settings, version.step, lease.closed))
            found.append(schedule.lr)
            schedule.advance()
            version = type(version)(version.incarnation, version.step + 1)
            await buffer.commit(lease.batch_id, version)
            if version.step == restart_at:
                version = await buffer.begin(await buffer.snapshot())
                schedule = optim(total)
                schedule.restore({"steps": version.step})

    return asyncio.run(run())


def test_without_drops_the_places_are_the_steps():
    schedule, expected = optim(PAGES // PER_STEP), []
    for _ in range(PAGES // PER_STEP):
        expected.append(schedule.lr)
        schedule.advance()
    assert rates(0.0) == expected


@pytest.mark.parametrize("dropped", [0.1, 0.4, 0.8])
def test_the_rate_ends_at_the_schedules_end_however_many_groups_are_dropped(dropped):
    found = rates(dropped)
    assert len(found) == pytest.approx((1 - dropped) * PAGES / PER_STEP, abs=1)
    # the last batch takes the last pages: at most a few batches' worth lies behind it
    assert found[:6] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], "the warm-up is as long as it was set"
    assert found[-1] < 3 / (1 - dropped) * PER_STEP / PAGES
    assert np.all(np.diff(found[5:]) < 0)


def test_a_resumed_run_has_the_rates_of_the_unbroken_one():
    assert rates(0.4, restart_at=12) == rates(0.4)


@pytest.mark.parametrize(
    ("made", "used", "place"),
    [
        (0, 7.0, 0.0),  # dropped before the first step: it begins at the beginning
        (10, 10.0, 10.0),
        (10, 30.0, 10.0),  # the end of the warm-up, wherever the pages are
        # 40 of 100 used by 20 steps: half of them, 20, in the warm-up; 20 of the 80 since
        (20, 40.0, 10 + 90 * 20 / 80),
        (30, 100.0, 100.0),
    ],
)
def test_places_by_hand(made, used, place):
    assert schedule_place(made, used, warmup=10, total=100) == pytest.approx(place)


def test_a_run_of_so_many_steps_follows_its_steps():
    assert updates_used(config(steps=50), step=7, closed=70) == 7.0
    assert updates_used(config(epochs=1), step=7, closed=70) == 17.5
