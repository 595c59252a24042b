"""`python -m olmrl.sft --config FILE [key=value ...]`: supervised fine-tuning on page pairs.

page pairs -> Ray Data (steps, encode) -> StepFeed -> LearnerWorker x M

python -m olmrl.sft --config configs/sft/tiny_cpu.yaml run.dir=runs/warmup
ray job submit --working-dir . -- python -m olmrl.sft --config configs/sft/tiny_cpu.yaml
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import ray

from olmrl import cluster
from olmrl.config import SftConfig
from olmrl.console import Console, run_command
from olmrl.data.encode import EncoderSpec
from olmrl.data.examples import check_pipelines, count_sets, load_sets
from olmrl.data.feed import StepFeed
from olmrl.learner.launch import LearnerGroup
from olmrl.learner.task import SftTask
from olmrl.report.run import write as write_report
from olmrl.run_directory import RunDirectory
from olmrl.sft_driver import SftDriver
from olmrl.sft_scoring import asking_pipeline, sample_pages

COLUMNS = {
    "loss": ("loss/sft", ".4f"),
    "eval": ("eval/loss", ".4f"),
    "similarity": ("eval/edit_similarity", ".3f"),
    "lr": ("policy/lr", ".1e"),
    "grad": ("policy/grad_norm", ".2f"),
    "tokens/s": ("throughput/learner_tokens_per_s", ".0f"),
    "MFU": ("throughput/mfu", ".1%"),
    "wait": ("time/data_wait", ".2f"),
}
"""Figures of the console line."""

_STEPS_AHEAD = 4


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    return run_command("sft", SftConfig, cluster.plan_sft, run, argv, describe_data)


def run(config: SftConfig, directory: RunDirectory, console: Console) -> None:
    """Train from start (or from the newest checkpoint) to report."""
    encoder = EncoderSpec(config.model.path)
    encoder.build().check_chat()  # a wrong model ends the run here, before anything starts
    pages = load_sets(config.data, str(directory.path.parent))
    for bad in pages.bad:
        directory.bad_page(f"{bad.path}::{bad.page_number}", bad.path, bad.reason)
    read = sample_pages(config, pages.evaluation)
    count = len(pages.train.items)
    total = total_steps(config, count)
    held = sum(len(held_out.items) for held_out in pages.evaluation)
    console.say(f"{count} training pages, {held} for evaluation, {total} steps")
    feed = (
        ray.remote(StepFeed)
        .options(max_concurrency=1000, **cluster.beside_driver())
        .remote(config.learner.workers, _STEPS_AHEAD)
    )
    task = SftTask(
        config=config,
        run_dir=str(directory.path),
        encoder=encoder,
        feed=feed,
        evaluation_sets=tuple(held_out.name for held_out in pages.evaluation),
        pages_per_epoch=count,
        total_steps=total,
    )
    learner = LearnerGroup(
        "olmrl.learner.sft_worker:sft_loop", task, config.learner, str(directory.path)
    )
    driver = SftDriver(
        config,
        directory,
        encoder=encoder,
        cost=cluster.operations(config.model.path),
        pages=pages,
        read=read,
        feed=feed,
        sinks=console.sinks(config.logging),
        on_step=console.step_line("SFT", total, COLUMNS),
        say=console.say,
    )
    driver.run(learner.error, console.stop.requested)
    learner.join()
    console.say(driver.tally.summary())
    if console.stop.requested():
        return
    console.summary(directory, write_report(directory))


def describe_data(config: SftConfig) -> str:
    """Pages per set and steps, for `--dry-run`: no page is opened, and Ray is not started.

    Raises:
        ValueError: a pipeline cannot work (`check_pipelines`).
    """
    check_pipelines(config.data)
    if config.evaluation.generate is not None and config.evaluation.generate.bench is not None:
        asking_pipeline(config)
    counts = count_sets(config.data, str(Path(config.run.dir).parent))
    lines = ["pages"]
    for count in counts:
        kind = "training  " if count.training else "evaluation"
        notes = [f"{count.bad} bad ones left out"] if count.bad else []
        notes += [f"{count.unseen} of its pairs not validated yet"] if count.unseen else []
        note = f" ({', '.join(notes)})" if notes else ""
        amount = f"cannot be counted: {count.problem}" if count.problem else str(count.pages)
        lines.append(f"  {kind}  {count.name:<20} {amount}{note}")
    training = [count for count in counts if count.training]
    if not any(count.problem for count in training):
        total = sum(count.pages for count in training)
        steps = total_steps(config, total)
        lines.append(f"  {total} training pages an epoch, {steps} steps (filters may drop pages)")
    return "\n".join(lines)


def total_steps(config: SftConfig, pages: int) -> int:
    """Optimizer steps of the run: `run.steps`, or what the epochs give."""
    if config.run.steps is not None:
        return config.run.steps
    return max(1, math.ceil(config.run.epochs * pages / config.training.pages_per_step))


if __name__ == "__main__":
    sys.exit(main())
