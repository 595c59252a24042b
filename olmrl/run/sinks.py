"""Where a run's rows of metrics go: `metrics.jsonl` always, W&B and Prometheus when asked."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from olmrl import storage
from olmrl.config.load import parse_yaml
from olmrl.config.schema import LoggingConfig
from olmrl.metrics import Sink
from olmrl.run.directory import RunDirectory


class JsonlSink:
    """`metrics.jsonl`: one JSON object a step.

    The file is opened for each row, as `RunDirectory.continue_from` may replace it in between.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Append one row; NaN and infinities become null, which JSON can carry."""
        clean = {k: (v if math.isfinite(v) else None) for k, v in row.items()}
        storage.append(self._path, storage.json_bytes({"step": step, **clean}))

    def close(self) -> None:
        """Nothing to close."""


class WandbSink:
    """Weights & Biases, offline unless a key is set.

    A failure to start is an error (the user asked for it); a failure later is counted and never
    takes the run down.
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        self.failures = 0

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Log one row."""
        self._log(step, dict(row))

    def show(self, step: int, name: str, value: Any) -> None:
        """Log a W&B table or picture."""
        self._log(step, {name: value})

    def _log(self, step: int, values: dict[str, Any]) -> None:
        try:
            self._run.log(values, step=step)
        except Exception:  # a tracker must never stop training; counted and shown at the end
            self.failures += 1

    def close(self) -> None:
        """Finish the W&B run."""
        self._run.finish()


def open_sinks(directory: RunDirectory, config: LoggingConfig) -> list[Sink]:
    """The sinks of a run: metrics.jsonl always, W&B and Prometheus when asked."""
    sinks: list[Sink] = [JsonlSink(directory.metrics)]
    if config.wandb != "off":
        sinks.append(_open_wandb(directory, config, config.wandb))
    if config.prometheus:
        # Deferred: its gauges are Ray's.
        from olmrl.run.prometheus import PrometheusSink  # noqa: PLC0415

        sinks.append(PrometheusSink(directory.path.name))
    return sinks


def _open_wandb(
    directory: RunDirectory, config: LoggingConfig, mode: Literal["online", "offline"]
) -> WandbSink:
    # Deferred: its import takes a second of CPU.
    import wandb  # noqa: PLC0415

    os.environ.setdefault("WANDB_SILENT", "true")
    run = wandb.init(
        project=config.wandb_project,
        entity=config.wandb_entity,
        name=directory.path.name,
        dir=str(directory.path),
        mode=mode,
        config=parse_yaml((directory.path / "config.yaml").read_text("utf-8"), "config.yaml"),
        id=directory.wandb_id(),
        resume="allow",
        settings=wandb.Settings(console="off", disable_git=True),
    )
    return WandbSink(run)
