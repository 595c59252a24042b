"""The GRPO LearnerWorker: one rank under Ray Train, a thin shell around the learner core.

    begin    newest checkpoint -> weights, ledger, a new incarnation; publish the weights
    step     lease -> encode, pack -> learner step -> commit -> publish -> report, save

Weights and ledger are saved as one unit, and every start publishes its weights before any page is
issued, so a killed rank, group or job continues from its newest checkpoint as if nothing happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist

from olmrl.checkpoint.state import CheckpointStore
from olmrl.data.pack import GroupItem, ScoredCompletion, pack_groups
from olmrl.data.page import load_page
from olmrl.errors import EngineBroken, GuardFailure
from olmrl.export.hf import export
from olmrl.grpo.saved_groups import decode_groups, encode_groups
from olmrl.grpo.task import GrpoTask
from olmrl.grpo.waiting import await_engines
from olmrl.learner.advantage import group_advantages, token_weights
from olmrl.learner.build import build_grpo
from olmrl.learner.optim import NonFiniteStep
from olmrl.learner.parity import ParityGuard, mean_gap_bound
from olmrl.metrics import Clock, Max, Measurements, Sum
from olmrl.run.events import EventLog
from olmrl.types import Completion, Float32Array, PackedBatch, Page, PolicyVersion, PromptGroup
from olmrl.weight_sync.sender import make_sender
from olmrl.weight_sync.transport import resolve_transport


def grpo_loop(task: GrpoTask) -> None:
    """Entry point of every rank."""
    GrpoWorker(task).run()


class GrpoWorker:
    """One rank of the learner."""

    def __init__(self, task: GrpoTask) -> None:
        self._task = task
        self._config = config = task.config
        context = ray.train.get_context()
        self._rank = context.get_world_rank()
        self._encoder = task.encoder.build()
        device = ray.train.torch.get_device() if config.learner.use_gpu else torch.device("cpu")
        torch.set_num_threads(max(1, int(config.learner.cpus_per_worker)))
        torch.manual_seed(config.run.seed)
        self._strategy, self._learner = build_grpo(
            config,
            self._encoder.banned_ids,
            total_steps=task.total_steps,
            device=device,
            replay_dir=f"{task.run_dir}/replay",
        )
        self._store = CheckpointStore(
            f"{task.run_dir}/checkpoints",
            keep_last=config.checkpoint.keep_last,
            keep_best=config.checkpoint.keep_best,
            asynchronous=config.checkpoint.asynchronous,
        )
        self._log = EventLog(task.run_dir, "learner", self._rank)
        self._version = PolicyVersion(0, 0)
        self._saved_step = -1
        guards, sync = config.guards, config.weight_sync
        self._parity = ParityGuard(
            self._strategy,
            guards,
            mean_gap_bound(guards, config.rollout.dtype, config.model.dtype),
            pack=self._pack,
            decode=self._encoder.decode,
            score=self._ask_engine,
            keeps_kv=sync.in_flight == "keep_kv",
        )

    def run(self) -> None:
        """Train until the steps or the pages are used up."""
        config, task = self._config, self._task
        self._version = self._begin()
        self._log.write("begins", self._version)
        self._sender = make_sender(
            config.weight_sync,
            task.weights,
            self._rank,
            transport=resolve_transport(
                config.weight_sync,
                engine=config.rollout.engine,
                use_gpu=config.learner.use_gpu,
                colocate=config.rollout.colocate,
            ),
            dtype=config.rollout.dtype,
        )
        self._publish()
        clock = Clock()
        if self._version.step == 0 and not config.evaluation.skip_start:
            self._evaluate()
            clock.lap("evaluation")
        started = time.monotonic()
        while self._version.step < task.total_steps:
            batch_id = f"{self._version.incarnation}-{self._version.step}"
            lease = self._await(partial(task.buffer.lease.remote, batch_id, self._rank))
            clock.lap("lease_wait")
            if lease is None:
                break
            try:
                measured = self._train(lease, clock)
            except NonFiniteStep as error:
                if not error.weights_changed:
                    self._save()  # for `--replay`: the batch meets the weights that it met here
                    self._store.wait()
                raise
            if self._rank == 0:
                ray.get(task.buffer.commit.remote(batch_id, self._next_version()))
            self._version = self._next_version()
            measured |= self._publish()
            clock.lap("weight_sync")
            self._log.write("step", self._version, seconds=clock.parts)
            report = {**measured, **clock.measurements()}
            ray.get(
                task.buffer.report.remote(
                    self._version.step, self._rank, report, tuple(clock.spans)
                )
            )
            # All that is told of the step is out; what follows counts into the next one.
            clock = Clock()
            every = config.evaluation.every
            is_best = False
            if every and self._version.step % every == 0 and self._version.step < task.total_steps:
                is_best = self._evaluate()
                clock.lap("evaluation")
            self._save_if_due(is_best)
            clock.lap("checkpoint")
            limit = config.run.max_seconds
            if limit is not None and self._any_rank(time.monotonic() - started > limit):
                break
        self._evaluate()
        self._save()
        self._store.wait()
        if self._rank == 0:
            if not ray.get(task.buffer.stopping.remote()):
                export(task.run_dir, f"{task.run_dir}/model", replace=True)
            ray.get(task.buffer.finish.remote())

    # -- a start

    def _begin(self) -> PolicyVersion:
        newest = self._store.newest()
        saved = None
        if newest is not None:
            restored = self._store.load(newest, self._strategy.state_dict())
            self._strategy.load_state_dict(restored.state)
            saved = (restored.extra["ledger"], decode_groups(restored.blobs["groups"]))
            self._saved_step = newest.step
        shared: list[Any] = [None]
        if self._rank == 0:
            shared = [ray.get(self._task.buffer.begin.remote(saved))]
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.broadcast_object_list(shared, src=0)
        return PolicyVersion(*shared[0])

    def _next_version(self) -> PolicyVersion:
        return PolicyVersion(self._version.incarnation, self._version.step + 1)

    # -- a step

    def _train(self, lease: Any, clock: Clock) -> Measurements:
        advantages = group_advantages(list(lease.totals), self._config.algorithm.reward_scaling)
        items = []
        for group, position in zip(lease.groups, lease.positions, strict=True):
            page = self._encoder.encode_page(self._page(group))
            self._check_prompt(group, page.prompt_ids)
            items.append(GroupItem(page, self._completions(group, advantages[position])))
        batches = self._pack(items)
        clock.lap("encode")
        measured: Measurements = {}
        if self._parity.is_due(self._version.step):
            measured |= self._parity.check(self._version, lease.groups, items)
            clock.lap("parity")
        measured |= self._learner.step(batches, self._version.step)
        clock.lap("learner")
        packed = float(sum(batch.num_tokens for batch in batches))
        measured["throughput/learner_tokens_per_s"] = Sum(packed / clock.parts["learner"])
        measured["learner/micro_batches"] = Max(float(len(batches)))
        return measured

    def _page(self, group: PromptGroup) -> Page:
        if group.page is None:
            return load_page(self._task.sources[group.page_id], self._config.data.longest_side)
        return ray.get(group.page)

    def _check_prompt(self, group: PromptGroup, prompt_ids: Any) -> None:
        """Engine and learner must see the same prompt, image tokens included."""
        seen = group.rollouts[0].completion.prompt_token_ids
        if not np.array_equal(seen, prompt_ids):
            raise GuardFailure(
                f"{group.page_id}: the engine saw {len(seen)} prompt tokens, the learner encodes "
                f"{len(prompt_ids)}; engine and learner disagree on the processor"
            )

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
        """Log-probs of a completion under the present weights, by an engine that has them."""
        if self._config.rollout.colocate:
            return None  # they sleep while the learner works
        engines = ray.get(self._task.weights.engines.remote())
        late = set(ray.get(self._task.weights.unsynced.remote()))
        synced = [engine for engine in engines if engine.worker_id not in late]
        if not synced:
            return None
        engine = synced[self._rank % len(synced)]
        temperature = self._config.rollout.sampling.temperature
        page = self._page(group) if group.page is None else group.page
        asked = engine.handle.score.remote(page, None, completion.token_ids, temperature)
        try:
            return ray.get(asked)
        except (ray.exceptions.RayActorError, EngineBroken):
            return None

    # -- weights out, checkpoints

    def _publish(self) -> Measurements:
        config = self._config
        # Engines load frozen weights from model.path. Sleeping drops theirs, and the checksums are
        # of whole fused layers: then all are sent.
        everything = config.rollout.colocate or config.weight_sync.checksum
        if config.rollout.colocate:
            self._strategy.release_cache()
            self._any_rank(False)  # all ranks have made room: the first call wakes all engines
            ray.get(self._task.buffer.need_engines.remote())
        named = self._strategy.named_weights(changing_only=not everything)
        measured = self._sender.send(named, self._version)
        if self._rank == 0:
            ray.get(self._task.buffer.published.remote(self._version))
        return measured

    def _await(self, ask: Callable[[], Any]) -> Any:
        strategy = self._strategy
        return await_engines(ask, self._sender, self._publish, strategy.max_over_ranks)

    def _save_if_due(self, is_best: bool) -> None:
        every = self._config.checkpoint.every
        if is_best or (every and self._version.step % every == 0):
            self._save()

    def _save(self) -> None:
        if self._saved_step == self._version.step:
            return
        extra: dict[str, Any] = {}
        blobs: dict[str, bytes] = {}
        if self._rank == 0:
            ray.get(self._task.buffer.all_written.remote())
            ledger, groups = ray.get(self._task.buffer.snapshot.remote())
            extra = {
                "ledger": ledger,
                "version": str(self._version),
                "config": self._config.model_dump(mode="json"),
            }
            blobs = {"groups": encode_groups(groups)}
        self._store.save(self._version.step, self._strategy.state_dict(), extra=extra, blobs=blobs)
        self._log.write("checkpoint", self._version)
        self._saved_step = self._version.step

    # -- all ranks together

    def _evaluate(self) -> bool:
        """Wait for the evaluation of the present weights; says whether they are to be kept for it.

        Those of step 0 are not: they are the model that the run began with.
        """
        if not self._task.evaluate:
            return False
        step = self._version.step
        score = self._await(partial(self._task.buffer.evaluation_due.remote, self._version))
        noted = step > 0 and self._rank == 0 and score is not None
        return self._any_rank(noted and self._store.record_score(step, score))

    def _any_rank(self, flag: bool) -> bool:
        return self._strategy.max_over_ranks([float(flag)])[0] > 0.0
