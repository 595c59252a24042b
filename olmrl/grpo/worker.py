"""The GRPO LearnerWorker: leases batches and publishes the new weights.

    begin    also publishes the weights
    step     lease -> pack -> learner step -> commit -> publish

Weights and ledger are saved as one unit, and every start publishes its weights before any page is
issued, so that a restart changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import ray
import torch

from olmrl.checkpoint.state import Restored
from olmrl.config.schema import GrpoConfig
from olmrl.data.items import IMAGE_CALLS
from olmrl.data.pack import GroupItem, PackedRow, ScoredCompletion, pack_groups, pack_rows
from olmrl.data.page import load_page
from olmrl.data.payload import pack_block, unpack_block
from olmrl.errors import EngineBroken, GuardFailure
from olmrl.grpo.buffer import Lease
from olmrl.grpo.refills import no_step
from olmrl.grpo.saved_groups import decode_groups, encode_groups
from olmrl.grpo.task import GrpoTask
from olmrl.grpo.waiting import await_engines
from olmrl.learner.advantage import group_advantages, token_weights
from olmrl.learner.build import build_grpo
from olmrl.learner.minibatches import GroupMinibatches, Minibatches, cut_groups
from olmrl.learner.model import TORCH_DTYPES
from olmrl.learner.optim import NonFiniteStep
from olmrl.learner.parity import ParityGuard, mean_gap_bound, spread_bound
from olmrl.learner.strategy import Strategy
from olmrl.lost import LOST
from olmrl.metrics import Clock, Mean, Measurements
from olmrl.models.patches import images_encoded
from olmrl.run.worker import LearnerWorker
from olmrl.types import (
    Completion,
    EncodedPage,
    Float32Array,
    PackedBatch,
    PolicyVersion,
    PromptGroup,
)
from olmrl.weight_sync.publication import Weights
from olmrl.weight_sync.sender import make_sender
from olmrl.weight_sync.transport import run_transport


class GrpoWorker(LearnerWorker[GrpoTask]):
    """One rank of the learner."""

    waits_for = "lease"

    def __init__(self, task: GrpoTask) -> None:
        super().__init__(task)
        self._config = config = task.config
        self._parity = ParityGuard(
            self._strategy,
            config.guards,
            mean_gap_bound(config.guards, config.rollout.dtype, config.model.dtype),
            pack=self._pack,
            decode=self._encoder.decode,
            score=self._ask_engine,
            keeps_kv=config.weight_sync.in_flight == "keep_kv",
            spread_bound=spread_bound(config.guards, config.algorithm.correction),
        )

    def _build(self, device: torch.device) -> Strategy:
        task = self._task
        strategy, self._learner = build_grpo(
            task.config,
            self._encoder.banned_ids,
            total_steps=task.total_steps,
            device=device,
            replay_dir=f"{task.run_dir}/replay",
        )
        return strategy

    # -- start and checkpoints

    def _begin(self) -> None:
        super()._begin()
        config = self._config
        self._sender = make_sender(
            config.weight_sync,
            self._task.weights,
            self._rank,
            transport=run_transport(config),
            dtype=config.rollout.dtype,
            family=self._encoder.family,
        )
        self._publish()

    def _announce(self, restored: Restored | None) -> PolicyVersion:
        saved = None
        if restored is not None:
            saved = (restored.extra["ledger"], decode_groups(restored.blobs["groups"]))
        return PolicyVersion(*ray.get(self._actor.begin.remote(saved)))

    def _extras(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        ledger, groups = ray.get(self._actor.snapshot.remote())
        return {"ledger": ledger, "version": str(self._version)}, {"groups": encode_groups(groups)}

    def _end(self) -> None:
        stopping = self._any_rank(ray.get(self._actor.stopping.remote()))
        if self._version.step == 0 and not stopping:
            raise GuardFailure(no_step(ray.get(self._actor.dropped.remote())))
        super()._end()

    # -- a step

    def _next(self) -> Lease | None:
        batch_id = f"{self._version.incarnation}-{self._version.step}"
        lease: Lease | None = self._await(partial(self._actor.lease.remote, batch_id, self._rank))
        return lease

    def _train(self, work: Lease, clock: Clock) -> Measurements:
        try:
            return self._make_step(work, clock)
        except NonFiniteStep as error:
            if not error.weights_changed:
                self._save()  # so that `--replay` runs the batch on these weights
                self._store.wait()
            raise

    def _commit(self, work: Lease, clock: Clock) -> Measurements:
        if self._rank == 0:
            ray.get(self._actor.commit.remote(work.batch_id, self._version))
        measured = self._publish()
        clock.lap("weight_sync")
        return measured

    def _make_step(self, lease: Lease, clock: Clock) -> Measurements:
        encoded = images_encoded()
        groups = [self._with_page(group) for group in lease.groups]
        pages = [unpack_block(block) for block in ray.get([group.page for group in groups])]
        advantages = group_advantages(list(lease.totals), self._config.algorithm.reward_scaling)
        items = []
        for group, page, position in zip(groups, pages, lease.positions, strict=True):
            check_prompts(group, page)
            items.append(GroupItem(page, self._completions(group, advantages[position])))
        work = self._minibatches(items, lease)
        clock.lap("pack")
        self._strategy.optim.follow(updates_used(self._config, self._version.step, lease.closed))
        measured: Measurements = {}
        if self._parity.is_due(self._version.step):
            measured |= self._parity.check(self._version, groups, items)
            clock.lap("parity")
        if again := images_encoded() - encoded:
            measured[IMAGE_CALLS] = Mean(again, 0.0)
        return measured | self._learn(work, clock)

    def _minibatches(self, items: list[GroupItem], lease: Lease) -> Minibatches:
        learner = self._config.learner

        def pack(chosen: list[GroupItem]) -> list[PackedRow]:
            budget, vision = learner.token_budget, self._encoder.vision
            return pack_rows(chosen, budget, learner.page_once, vision)

        cut = partial(
            cut_groups,
            len(lease.totals),
            self._config.algorithm.minibatches,
            self._config.run.seed,
            self._version.step,
        )
        return GroupMinibatches(items, lease.positions, cut, pack)

    def _with_page(self, group: PromptGroup) -> PromptGroup:
        """The group with its page, which is read again if the group comes from a checkpoint."""
        if group.page is not None:
            return group
        source = self._task.sources[group.page_id]
        rendered = load_page(source, self._config.data.longest_side)
        block = pack_block(self._encoder.encode_page(rendered))
        return replace(group, page=ray.put(block))

    def _completions(self, group: PromptGroup, advantages: Float32Array) -> list[ScoredCompletion]:
        overlong = self._config.algorithm.overlong
        return [
            ScoredCompletion(
                token_ids=r.completion.token_ids,
                logprobs=r.completion.logprobs,
                advantage=float(advantage),
                weights=token_weights(
                    len(r.completion.token_ids), r.completion.finish_reason, overlong
                ),
            )
            for r, advantage in zip(group.rollouts, advantages, strict=True)
        ]

    def _pack(self, items: list[GroupItem]) -> list[PackedBatch]:
        learner = self._config.learner
        return pack_groups(items, learner.token_budget, learner.page_once, self._encoder.vision)

    def _ask_engine(self, group: PromptGroup, completion: Completion) -> Float32Array | None:
        """Log-probs of a completion under the current weights, by an engine that holds them."""
        if self._config.rollout.colocate:
            return None  # engines sleep while the learner works
        engines = ray.get(self._task.weights.engines.remote())
        late = set(ray.get(self._task.weights.unsynced.remote()))
        synced = [engine for engine in engines if engine.worker_id not in late]
        if not synced:
            return None
        engine = synced[self._rank % len(synced)]
        temperature = self._config.rollout.sampling.temperature
        asked = engine.handle.score.remote(group.page, completion.token_ids, temperature)
        try:
            return ray.get(asked)
        except (*LOST, EngineBroken):
            return None

    # -- weights out

    def _publish(self) -> Measurements:
        config = self._config
        # Frozen weights need not be sent: engines load them from model.path. But sleeping engines
        # have dropped theirs, and checksums cover whole fused layers.
        everything = config.rollout.colocate or config.weight_sync.checksum
        if config.rollout.colocate:
            self._strategy.release_cache()
            self._any_rank(False)  # a barrier: all ranks have made room before engines wake
            ray.get(self._actor.need_engines.remote())
        dtype = TORCH_DTYPES[config.rollout.dtype]
        if config.synced_adapter:
            named = Weights(partial(self._strategy.named_adapters, dtype))
        else:
            named = Weights(partial(self._strategy.named_weights, not everything, dtype))
        measured = self._sender.send(named, self._version)
        if self._rank == 0:
            ray.get(self._actor.published.remote(self._version))
        return measured

    def _await(self, ask: Callable[[], Any]) -> Any:
        strategy = self._strategy
        return await_engines(ask, self._sender, self._publish, strategy.max_over_ranks)

    # -- evaluation

    def _evaluate(self, *, last: bool) -> bool | None:
        """Wait for the evaluation. Step 0, the run's base model, never counts as a best one."""
        if not self._task.evaluate or not (last or self._is_due(self._version.step)):
            return None
        step = self._version.step
        score = self._await(partial(self._actor.evaluation_due.remote, self._version))
        if self._any_rank(score is None and ray.get(self._actor.stopping.remote())):
            self._owed = step
        noted = step > 0 and self._rank == 0 and score is not None
        return self._any_rank(noted and self._store.record_score(step, score))

    def _is_due(self, step: int) -> bool:
        settings = self._config.evaluation
        if step == 0:
            return not settings.skip_start
        is_last = step >= self._task.total_steps  # evaluated at the end
        return bool(settings.every) and step % settings.every == 0 and not is_last


def updates_used(config: GrpoConfig, step: int, closed: int) -> float:
    """Optimizer updates that the pages used so far would have given, had none been dropped.

    Args:
        config: the run; where it says how many steps to make, those count and not the pages.
        step: steps made.
        closed: pages trained, dropped or set aside.
    """
    algorithm = config.algorithm
    made = closed / algorithm.pages_per_step if config.run.steps is None else step
    return float(made * algorithm.updates_per_step)


def check_prompts(group: PromptGroup, page: EncodedPage) -> None:
    """Check that engines saw the prompt that the learner trains on, image tokens included.

    Raises:
        GuardFailure: a completion was sampled after a different prompt.
    """
    for number, rollout in enumerate(group.rollouts):
        seen = rollout.completion.prompt_token_ids
        if not np.array_equal(seen, page.prompt_ids):
            raise GuardFailure(
                f"{group.page_id}, completion {number}: the engine saw {len(seen)} prompt tokens, "
                f"the learner has {len(page.prompt_ids)}; they must be identical"
            )
