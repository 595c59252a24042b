"""Held-out transcriptions next to their page and truth, as a W&B table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from olmrl.metrics import Sink
from olmrl.run.directory import RunDirectory
from olmrl.run.sinks import WandbSink

NAME = "eval/samples"
COLUMNS = ("page", "image", "truth", "mode", "transcription", "ended by", "scores")


def log_samples(
    sinks: Sequence[Sink], step: int, directory: RunDirectory, record: Mapping[str, Any]
) -> None:
    """Send the shown pages of an evaluation (`evaluation.record`) to W&B, if it is in use."""
    for sink in sinks:
        if isinstance(sink, WandbSink):
            sink.show(step, NAME, table(directory, record))


def table(directory: RunDirectory, record: Mapping[str, Any]) -> Any:
    """A `wandb.Table` with one row per shown page and mode: its first transcription."""
    # Deferred: its import takes a second of CPU.
    import wandb  # noqa: PLC0415

    rows = [
        [
            page["page_id"],
            wandb.Image(str(directory.path / page["image"])),
            page["reference"],
            mode,
            rollouts[0]["text"],
            rollouts[0]["finish_reason"],
            ", ".join(f"{name} {_figure(v)}" for name, v in rollouts[0]["rewards"].items()),
        ]
        for page in record["pages"]
        for mode, rollouts in page["rollouts"].items()
        if rollouts
    ]
    return wandb.Table(columns=list(COLUMNS), data=rows)


def _figure(value: float | None) -> str:
    return "failed" if value is None else f"{value:.3f}"
