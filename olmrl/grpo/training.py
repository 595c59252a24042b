"""A GRPO run: builds the parts, starts the learner, runs the Driver's loop, writes the report."""

from __future__ import annotations

import ray

from olmrl import storage
from olmrl.cluster import operations
from olmrl.cluster.connect import beside_driver
from olmrl.cluster.reserve import reserve_engines
from olmrl.config import GrpoConfig
from olmrl.data.draw import draw_pages, limit_note
from olmrl.data.encode import EncoderSpec
from olmrl.data.found import FoundBench, untested
from olmrl.data.page import PageSource, scan_bench
from olmrl.errors import RunStopped
from olmrl.evaluation import figures
from olmrl.evaluation.heldout import HeldoutEvaluator
from olmrl.grpo.buffer import RolloutBuffer
from olmrl.grpo.driver import GrpoDriver
from olmrl.grpo.group_cost import GroupCost
from olmrl.grpo.task import GrpoTask
from olmrl.grpo.teacher import check_teacher
from olmrl.learner.loss import policy_loss
from olmrl.report.run import write as write_report
from olmrl.rewards.pool import ScorerPool
from olmrl.rewards.registry import build_all
from olmrl.rollout.pool import RolloutPool
from olmrl.rollout.worker import WorkerSpec
from olmrl.run.console import Console
from olmrl.run.directory import RunDirectory
from olmrl.run.launch import LearnerGroup, start_actor
from olmrl.weight_sync.store import start_store
from olmrl.weight_sync.transport import load_transport, run_transport

COLUMNS = {
    "reward": ("reward/mean", ".3f"),
    "tests": ("reward/bench/mean", ".3f"),
    "length": ("completion/mean_length", ".0f"),
    "entropy": ("policy/entropy", ".3f"),
    "mismatch": ("mismatch/logprob_mean_abs", ".1e"),
    "grad": ("policy/grad_norm", ".2f"),
    "s/step": ("time/step", ".1f"),
}
"""Figures on the console line."""
_COLOCATED_START_S = 1800.0
"""Longest wait for engines that must start before the learner."""


def run(config: GrpoConfig, directory: RunDirectory, console: Console) -> None:
    """Run GRPO from start (or from the newest checkpoint) to report."""
    train, heldout, found, notes = _pages(config, directory)
    encoder = EncoderSpec(
        config.model.path,
        config.data.prompt,
        config.data.prompt_order,
        config.data.anchor_text_len,
        tuple(config.model.chat.items()),
    )
    # A wrong model path, prompt, loss, teacher, transport or reward stops the run here.
    built = encoder.build()
    policy_loss(config.algorithm)
    if config.algorithm.teacher is not None:
        check_teacher(encoder, config.algorithm.teacher.path)
    engine = worker_spec(config, encoder)
    for reward in build_all(config.rewards):
        if reward.curriculum is not None:
            reward.curriculum.check_files(name for page in train for name in page.test_files)
    pages = config.run.epochs * len(train)
    total = config.run.total_steps(pages, config.algorithm.pages_per_step)
    for note in notes:
        console.say(note)
    console.say(str(found))
    storage.write_json(directory.found, found._asdict())
    console.say(f"{len(train)} training pages, {len(heldout)} held out, {total} steps")

    buffer = start_actor(
        RolloutBuffer,
        config.algorithm.pages_per_step,
        config.algorithm.max_staleness,
        config.learner.workers,
        GroupCost(operations(config.model.path), built.vision, config.learner.page_once),
        config.algorithm.minibatches,
        config.run.seed,
        config.rollout.colocate,
        config.data.selection,
    )
    weights = start_store(**beside_driver())
    ray_workers = load_transport(engine.transport).ray_workers
    seats = reserve_engines(config, ray_workers=ray_workers)
    pool = RolloutPool(engine, weights, actor_options=seats.options)
    pool.start()
    scorers = ScorerPool(config.rewards, config.scorer, config.rollout.group_size)
    evaluators = ScorerPool(figures.REWARDS, config.scorer.model_copy(update={"workers": 1}), 1)
    task = GrpoTask(
        config=config,
        run_dir=str(directory.path),
        sources={source.page_id: source for source in train},
        encoder=encoder,
        actor=buffer,
        weights=weights,
        total_steps=total,
        evaluate=bool(heldout),
    )
    if config.rollout.colocate:
        # Engines come first, each measuring the memory of its GPU undisturbed; then they sleep, so
        # that the learner has room to load the model.
        pool.wait_ready(_COLOCATED_START_S)
        pool.sleep()
        ray.get(buffer.engines_sleep.remote(True))
    learner = LearnerGroup(
        "olmrl.grpo.worker:GrpoWorker",
        task,
        config.learner,
        str(directory.path),
        gpu_share=config.rollout.learner_gpu_share,
    )
    driver = GrpoDriver(
        config,
        directory,
        sources=train,
        encoder=encoder,
        pool=pool,
        scorers=scorers,
        heldout=HeldoutEvaluator(config, directory, heldout, built, pool, evaluators),
        buffer=buffer,
        sinks=console.sinks(config.logging),
        on_step=console.step_line("GRPO", total, COLUMNS),
        say=console.say,
    )
    try:
        driver.run(learner.error, console.stop)
        learner.join()
    finally:
        for part in (pool, scorers, evaluators):
            part.close()
        seats.release()
    if driver.ended_by is not None:
        raise RunStopped(driver.ended_by)
    if console.stop.requested():
        return
    console.summary(directory, write_report(directory))


def _pages(
    config: GrpoConfig, directory: RunDirectory
) -> tuple[list[PageSource], list[PageSource], FoundBench, list[str]]:
    """Training pages, all held-out pages, what lay there, and what to say of the choice."""
    data, most = config.data, config.evaluation.max_pages
    train = scan_bench(data.train, data.file_pattern)
    heldout = scan_bench(data.heldout) if data.heldout else []
    notes = [limit_note("data.max_pages", data.max_pages, len(train))]
    if heldout:
        there = len(figures.with_baselines(heldout))
        notes.append(limit_note("evaluation.max_pages", most, there))
    if config.rollout.oversample:
        notes.append(
            f"rollout.oversample={config.rollout.oversample}: of each page, the first "
            f"{config.rollout.group_size} completions to finish are trained on, which are its "
            "shorter ones"
        )
    drawn = draw_pages(train, data.max_pages, directory.page_seed(config.run.seed))
    found = FoundBench(untested(data.train, train), len(train) - len(drawn), len(drawn))
    return drawn, heldout, found, [note for note in notes if note]


def worker_spec(config: GrpoConfig, encoder: EncoderSpec) -> WorkerSpec:
    """What each engine process builds."""
    transport = run_transport(config)
    return WorkerSpec(
        encoder,
        config.rollout,
        config.learner.use_gpu,
        transport,
        seed=config.run.seed,
        trust_remote_code=config.model.trust_remote_code,
        prometheus=config.logging.prometheus,
        lora=config.synced_adapter,
        checksum=config.weight_sync.checksum,
    )
