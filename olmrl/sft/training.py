"""An SFT run: builds the parts, starts the learner, runs the Driver, writes the report.

page pairs -> Ray Data (steps, encode) -> StepFeed -> LearnerWorker x M
"""

from __future__ import annotations

from collections import Counter

from olmrl import storage
from olmrl.cluster import operations
from olmrl.config import SftConfig
from olmrl.data.encode import EncoderSpec
from olmrl.data.page_sets import load_sets
from olmrl.report.run import write as write_report
from olmrl.run.bad_pages import BadPages
from olmrl.run.console import Console
from olmrl.run.directory import RunDirectory
from olmrl.run.launch import LearnerGroup, start_actor
from olmrl.sft.driver import SftDriver
from olmrl.sft.feed import StepFeed
from olmrl.sft.forecast import drop_note, total_steps
from olmrl.sft.scoring import sample_pages
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
"""Figures on the console line."""

_STEPS_AHEAD = 4


def run(config: SftConfig, directory: RunDirectory, console: Console) -> None:
    """Train from start (or from the newest checkpoint) to report."""
    encoder = EncoderSpec(config.model.path, chat=tuple(config.model.chat.items()))
    encoder.build().check_chat()  # a wrong model stops the run here, before anything starts
    seed = directory.page_seed(config.run.seed)
    pages = load_sets(config.data, str(directory.path.parent), seed)
    for note in pages.notes:
        console.say(note)
    bad = BadPages(directory, pages.sources(), config.data.max_bad_fraction)
    for _, page in pages.bad:
        bad.list(page)
    console.say(str(pages.found))
    for reason, count in Counter(page.reason for _, page in pages.bad).most_common(3):
        console.say(f"  {count} refused: {reason}")
    storage.write_json(directory.found, pages.found._asdict())
    to_read = sample_pages(config, pages.evaluation, seed)
    count = len(pages.train.items)
    total = total_steps(config, [not rule for rule in pages.foreseen])
    held = sum(len(held_out.items) for held_out in pages.evaluation)
    lost = sum(bool(rule) for rule in pages.foreseen)
    console.say(f"{count} training pages{drop_note(lost)}, {held} for evaluation, {total} steps")
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
        cost=operations(config.model.path),
        pages=pages,
        bad=bad,
        to_read=to_read,
        feed=feed,
        sinks=console.sinks(config.logging),
        on_step=console.step_line("SFT", total, COLUMNS),
        say=console.say,
    )
    driver.run(learner.error, console.stop)
    learner.join()
    console.say(driver.tally.summary())
    if console.stop.requested():
        return
    console.summary(directory, write_report(directory))
