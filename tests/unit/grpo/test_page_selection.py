"""Pages that teach nothing are left out for a while and come back, also across a resume."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest
from test_buffer import COST
from test_buffer import group as scored

from olmrl.config.schema import SelectionConfig
from olmrl.data.order import order
from olmrl.grpo.buffer import RolloutBuffer
from olmrl.grpo.page_selection import PageSelection, reason_to_rest, token_entropy
from olmrl.types import PolicyVersion

VERSION = PolicyVersion(1, 0)
ALWAYS, NEVER, MIXED = [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]


def group(page_id, values, group_id="0-0-1", entropy=0.5, version=VERSION):
    """A group whose tokens all have the given -log-prob."""
    made = scored(group_id, values, version)
    rollouts = []
    for rollout in made.rollouts:
        logprobs = np.full(len(rollout.completion.token_ids), -entropy, np.float32)
        rollouts.append(replace(rollout, completion=replace(rollout.completion, logprobs=logprobs)))
    return replace(made, page_id=page_id, rollouts=tuple(rollouts))


@pytest.mark.parametrize(
    ("values", "entropy", "settings", "reason"),
    [
        (ALWAYS, 0.5, {}, "solved"),
        (NEVER, 0.5, {}, "failed"),
        (MIXED, 0.5, {}, ""),
        ([0.9, 1.0], 0.5, {}, ""),
        ([0.9, 1.0], 0.5, {"solved": 0.9}, "solved"),
        ([0.1, 0.0], 0.5, {"failed": 0.1}, "failed"),
        (MIXED, 0.04, {"min_entropy": 0.05}, "sure"),
        (MIXED, 0.06, {"min_entropy": 0.05}, ""),
        (ALWAYS, 0.5, {"reward": "teds"}, ""),
    ],
)
def test_why_a_page_rests(values, entropy, settings, reason):
    config = SelectionConfig(rest_epochs=1, **settings)
    assert reason_to_rest(group("p", values, entropy=entropy), config) == reason


def test_entropy_is_per_token():
    # 4 tokens at 0.5 nats and 5 tokens at 0.5 nats
    assert token_entropy(group("p", MIXED, entropy=0.5)) == pytest.approx(0.5)


def test_a_page_is_left_out_of_some_epochs_and_comes_back():
    selection = PageSelection(SelectionConfig(rest_epochs=2))
    selection.note(group("easy", ALWAYS), epoch=3, step=7)
    selection.note(group("hard", NEVER), epoch=3, step=7)
    selection.note(group("fine", MIXED), epoch=3, step=7)
    assert not selection.leaves_out("easy", 4, step=7)  # known from the next step on
    assert [selection.leaves_out("easy", e, step=8) for e in (4, 5, 6, 7)] == [
        True, True, False, False,
    ]  # fmt: skip
    assert not selection.leaves_out("fine", 4, step=8)
    counts = {name: m.value() for name, m in selection.measurements().items()}
    assert counts == {
        "selection/solved": 0, "selection/failed": 1, "selection/sure": 0, "selection/resting": 1,
    }  # fmt: skip


def test_without_rest_nothing_is_left_out_or_measured():
    selection = PageSelection(SelectionConfig())
    selection.note(group("easy", ALWAYS), epoch=0, step=0)
    assert not selection.leaves_out("easy", 1, step=5)
    assert selection.measurements() == {}


VALUES = {"easy": ALWAYS, "hard": NEVER, "a": MIXED, "b": MIXED, "c": MIXED}
PAGES = sorted(VALUES)


class Loop:
    """A synchronous run over five pages, one step for each batch of two, without Ray."""

    def __init__(self, rest_epochs=1):
        selection = SelectionConfig(rest_epochs=rest_epochs)
        self.buffer = RolloutBuffer(2, 0, 1, COST, selection=selection)
        self.trained, self.issued = [], []

    async def begin(self, saved=None):
        self.version = await self.buffer.begin(saved)
        await self.buffer.published(self.version)
        self.position = await self.buffer.next_position(len(PAGES))

    async def step(self):
        ready = 0
        while ready < 2:
            epoch, index = self.position
            self.position = (epoch, index + 1) if index + 1 < len(PAGES) else (epoch + 1, 0)
            page = PAGES[order(len(PAGES), 1, epoch)[index]]
            issued = await self.buffer.issue(self.version.incarnation, epoch, index, page)
            if issued is None:
                continue
            self.issued.append((epoch, page))
            made = group(page, VALUES[page], issued[0], version=self.version)
            ready += await self.buffer.add(made, True) == "ready"
        lease = await self.buffer.lease(f"b{self.version.step}", 0)
        self.trained.append([g.page_id for g in lease.groups])
        self.version = PolicyVersion(self.version.incarnation, self.version.step + 1)
        await self.buffer.commit(lease.batch_id, self.version)
        await self.buffer.published(self.version)


def test_a_run_leaves_pages_out_closes_every_position_and_resumes_alike():
    async def run():
        whole = Loop()
        await whole.begin()
        saved = None
        for step in range(9):
            if step == 4:
                saved = await whole.buffer.snapshot()
                before = len(whole.issued)
            await whole.step()
        snapshot, groups = json.loads(json.dumps(saved[0])), saved[1]
        again = Loop()
        await again.begin((snapshot, groups))
        for _ in range(4, 9):
            await again.step()
        assert again.trained == whole.trained[4:]
        assert again.issued == whole.issued[before:]
        return whole

    whole = asyncio.run(run())
    epochs = {page: {e for e, p in whole.issued if p == page} for page in PAGES}
    last = max(e for e, _ in whole.issued)
    for page in ("a", "b", "c"):
        assert epochs[page] >= set(range(last))
    for page in ("easy", "hard"):
        assert epochs[page] >= {0, 2, 4}
        assert not epochs[page] & {1, 3}
    counts = whole.buffer._ledger.counts
    assert counts["set_aside"] >= 4
    passed = len(PAGES) * whole.position[0] + whole.position[1]
    assert counts["set_aside"] + counts["issued"] == passed
    assert counts["dropped/zero_variance"] == len([i for i in whole.issued if len(i[1]) > 1])


def test_without_selection_every_page_is_issued_in_every_epoch():
    async def run():
        loop = Loop(rest_epochs=0)
        await loop.begin()
        for _ in range(6):
            await loop.step()
        return loop.issued

    issued = asyncio.run(run())
    assert {p for e, p in issued if e == 1} == set(PAGES)
