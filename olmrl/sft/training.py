"""`python -m olmrl.sft --config FILE [key=value ...]`: supervised fine-tuning on page pairs.

page pairs -> Ray Data (steps, encode) -> StepFeed -> LearnerWorker x M

python -m olmrl.sft --config configs/sft/tiny_cpu.yaml run.dir=runs/warmup
ray job submit --working-dir . -- python -m olmrl.sft --config configs/sft/tiny_cpu.yaml
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from olmrl import cluster
from olmrl.config import SftConfig
from olmrl.data.encode import EncoderSpec
from olmrl.data.page_sets import count_sets, load_sets
from olmrl.data.text_rules import kept_pages
from olmrl.report.run import write as write_report
from olmrl.run.bad_pages import BadPages
from olmrl.run.console import Console, run_command
from olmrl.run.directory import RunDirectory
from olmrl.run.launch import LearnerGroup, start_actor
from olmrl.sft.driver import SftDriver
from olmrl.sft.feed import StepFeed
from olmrl.sft.scoring import asking_pipeline, sample_pages
from olmrl.sft.task import SftTask

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
    bad = BadPages(directory, pages.sources(), config.data.max_bad_fraction)
    for _, page in pages.bad:
        bad.list(page)
    read = sample_pages(config, pages.evaluation)
    count = len(pages.train.items)
    total = total_steps(config, [not rule for rule in pages.foreseen])
    held = sum(len(held_out.items) for held_out in pages.evaluation)
    lost = sum(bool(rule) for rule in pages.foreseen)
    console.say(f"{count} training pages{_dropped(lost)}, {held} for evaluation, {total} steps")
    feed = start_actor(StepFeed, config.learner.workers, _STEPS_AHEAD)
    task = SftTask(
        config=config,
        run_dir=str(directory.path),
        encoder=encoder,
        actor=feed,
        evaluation_sets=tuple(held_out.name for held_out in pages.evaluation),
        pages_per_epoch=count,
        total_steps=total,
    )
    learner = LearnerGroup("olmrl.sft.worker:SftWorker", task, config.learner, str(directory.path))
    driver = SftDriver(
        config,
        directory,
        encoder=encoder,
        cost=cluster.operations(config.model.path),
        pages=pages,
        bad=bad,
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
        ValueError: a pipeline cannot work.
    """
    if config.evaluation.generate is not None and config.evaluation.generate.bench is not None:
        asking_pipeline(config)
    counts = count_sets(config.data, str(Path(config.run.dir).parent))
    lines = ["pages"]
    for count in counts:
        kind = "training  " if count.training else "evaluation"
        notes = [f"{count.bad} bad ones left out"] if count.bad else []
        notes += [f"{count.unseen} of its pairs not validated yet"] if count.unseen else []
        notes += [f"{count.dropped} dropped by text rules"] if count.dropped else []
        note = f" ({', '.join(notes)})" if notes else ""
        amount = f"cannot be counted: {count.problem}" if count.problem else str(count.pages)
        lines.append(f"  {kind}  {count.name:<20} {amount}{note}")
    training = [count for count in counts if count.training]
    if all(count.pages for count in training):
        kept = [flag for count in training for flag in count.kept]
        lines.append(
            f"  {len(kept)} training pages an epoch{_dropped(kept.count(False))}, "
            f"{total_steps(config, kept)} steps (longer ones than data.max_tokens are dropped too)"
        )
    return "\n".join(lines)


def _dropped(count: int) -> str:
    return f" ({count} of them dropped by text rules)" if count else ""


def total_steps(config: SftConfig, kept: Sequence[bool]) -> int:
    """Steps of the run.

    Args:
        config: The run.
        kept: By training page of an epoch: False for one that is known to be dropped.
    """
    pages = kept_pages(kept, config.run.epochs, config.training.seed(config.run))
    return config.run.total_steps(pages, config.training.pages_per_step)
