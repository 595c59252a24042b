"""Where a run's metrics go: `metrics.jsonl` always; W&B, TensorBoard, Prometheus when asked."""

from __future__ import annotations

import importlib
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from olmrl import storage
from olmrl.checkpoint.folder import CheckpointFolder
from olmrl.config.load import parse_yaml
from olmrl.config.schema import LoggingConfig
from olmrl.metrics import Sink
from olmrl.preflight.trackers import tensorboard_module
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

    def __init__(self, run: Any, artifacts: Literal["off", "report", "model"] = "off") -> None:
        self._run = run
        self._artifacts = artifacts
        self.failures = 0

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Log one row."""
        self._log(step, dict(row))

    def show(self, step: int, name: str, value: Any) -> None:
        """Log a W&B table or picture."""
        self._log(step, {name: value})

    def keep(self, directory: RunDirectory) -> None:
        """Log what a finished run leaves behind, if it was asked to."""
        if self._artifacts == "off":
            return
        try:
            self._run.log_artifact(report_artifact(directory))
            if self._artifacts == "model":
                self._run.log_artifact(model_artifact(directory))
        except Exception:  # likewise
            self.failures += 1

    def _log(self, step: int, values: dict[str, Any]) -> None:
        try:
            self._run.log(values, step=step)
        except Exception:  # a tracker must never stop training; counted and shown at the end
            self.failures += 1

    def close(self) -> None:
        """Finish the W&B run."""
        self._run.finish()


class TensorBoardSink:
    """Events for TensorBoard.

    Args:
        writer: a `SummaryWriter` of torch or of tensorboardX.
    """

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Write one row; TensorBoard cannot draw NaN and infinities, so they are left out."""
        for name, value in row.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and release."""
        self._writer.close()


def report_artifact(directory: RunDirectory) -> Any:
    """Report, configuration and evaluations of a run as a `wandb.Artifact`."""
    artifact = _artifact(directory, "report")
    for file in (directory.report, directory.path / "config.yaml"):
        artifact.add_file(str(file))
    artifact.add_dir(str(directory.path / "evaluations"), name="evaluations")
    return artifact


def model_artifact(directory: RunDirectory) -> Any:
    """The model of a run as a `wandb.Artifact`."""
    artifact = _artifact(directory, "model")
    artifact.add_dir(str(directory.path / "model"))
    return artifact


def _artifact(directory: RunDirectory, kind: str) -> Any:
    # Deferred: its import takes a second of CPU.
    import wandb  # noqa: PLC0415

    # W&B allows no other characters in names, and 128 of them.
    name = re.sub(r"[^A-Za-z0-9._-]", "-", directory.path.name)[:100]
    return wandb.Artifact(f"{name}-{directory.wandb_id()}-{kind}", type=kind)


def open_sinks(directory: RunDirectory, config: LoggingConfig) -> list[Sink]:
    """The sinks of a run: metrics.jsonl always, others when asked."""
    sinks: list[Sink] = [JsonlSink(directory.metrics)]
    if config.wandb != "off":
        sinks.append(_open_wandb(directory, config, config.wandb))
    if config.tensorboard:
        sinks.append(_open_tensorboard(directory))
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
    return WandbSink(run, config.wandb_artifacts)


def _open_tensorboard(directory: RunDirectory) -> TensorBoardSink:
    """Events in `tensorboard/`; steps that a resumed run repeats are hidden."""
    writer = importlib.import_module(tensorboard_module()).SummaryWriter
    newest = CheckpointFolder(directory.checkpoints).newest()
    repeated = newest.step + 1 if newest else 0
    folder = str(directory.path / "tensorboard")
    return TensorBoardSink(writer(folder, purge_step=repeated, flush_secs=10))
