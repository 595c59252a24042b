"""What an SFT run will do, known without opening a page: its pages, its steps, how it prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from olmrl.config import SftConfig
from olmrl.data.sets import asking_pipeline, count_sets
from olmrl.data.text_rules import kept_pages


def describe_data(config: SftConfig) -> str:
    """Pages per set and steps, for `--dry-run`: no page is opened, and Ray is not started.

    Raises:
        ValueError: a pipeline cannot work.
    """
    if config.evaluation.generate is not None and config.evaluation.generate.bench is not None:
        asking_pipeline(config)
    counts = count_sets(config.data, str(Path(config.run.dir).parent), config.run.seed)
    lines = ["pages"]
    for count in counts:
        kind = "training  " if count.training else "evaluation"
        notes = [f"{count.bad} bad pages left out"] if count.bad else []
        notes += [f"{count.unseen} pairs not validated yet"] if count.unseen else []
        notes += [f"{count.dropped} dropped by text rules"] if count.dropped else []
        note = f" ({', '.join(notes)})" if notes else ""
        amount = f"cannot be counted: {count.problem}" if count.problem else str(count.pages)
        lines.append(f"  {kind}  {count.name:<20} {amount}{note}")
    training = [count for count in counts if count.training]
    if all(count.pages for count in training):
        kept = [flag for count in training for flag in count.kept]
        lines.append(
            f"  {len(kept)} training pages an epoch{drop_note(kept.count(False))}, "
            f"{total_steps(config, kept)} steps (pages over data.max_tokens are dropped too)"
        )
    return "\n".join(lines)


def drop_note(count: int) -> str:
    """How many pages the text rules drop, in brackets; "" if none."""
    return f" ({count} of them dropped by text rules)" if count else ""


def total_steps(config: SftConfig, kept: Sequence[bool]) -> int:
    """Steps of the run.

    Args:
        config: The run.
        kept: For each training page of an epoch, False if it is known to be dropped.
    """
    pages = kept_pages(kept, config.run.epochs, config.training.seed(config.run))
    return config.run.total_steps(pages, config.training.pages_per_step)
