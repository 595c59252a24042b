"""What a Driver starts: the run's actor, on the Driver's node, and the LearnerGroup.

The LearnerGroup runs LearnerWorkers under Ray Train, in a thread of the Driver's process.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from olmrl import storage
from olmrl.cluster.connect import beside_driver
from olmrl.config.schema import LearnerConfig
from olmrl.errors import GuardFailure
from olmrl.hardware import collective_backend
from olmrl.lost import of_ray, out_of_memory
from olmrl.run.actor import RunActor

_MAX_CALLS = 1000
"""Calls that may wait inside the run's actor at the same time."""


def start_actor(kind: type[RunActor], *arguments: Any) -> Any:
    """Start the run's actor on the Driver's node, whose fate it shares; returns its handle."""
    options = {"max_concurrency": _MAX_CALLS, **beside_driver()}
    return ray.remote(kind).options(**options).remote(*arguments)


class LearnerFailed(ValueError):
    """The learner gave up; the message is its last sentence."""


class _Trainer(TorchTrainer):
    """Ray Train without two of its processes (5 CPU seconds each to start) that do nothing here.

    One splits data sets of Ray Train, and our ranks lease their pages from the run's actor. The
    other removes a dead controller's placement group, asking Ray's dashboard every second whether
    the controller lives; we end the job with its learner, and Ray removes what belongs to a job.
    """

    def _create_default_callbacks(self) -> list[Any]:
        unused = (DatasetsCallback, PlacementGroupCleanerCallback)
        whole: list[Any] = super()._create_default_callbacks()  # type: ignore[misc]
        return [part for part in whole if not isinstance(part, unused)]


class LearnerGroup:
    """Runs a training loop on every rank; Ray Train restarts the whole group when a rank dies."""

    def __init__(
        self, worker: str, task: Any, config: LearnerConfig, run_dir: str, gpu_share: float = 1.0
    ) -> None:
        """Start the group.

        Args:
            worker: `module:class` of the LearnerWorker that each rank builds from `task` and runs.
            task: picklable description of the work.
            config: number of ranks, devices, restarts.
            run_dir: holds Ray Train's own state (`ray_train/`) and, if a guard ends the run, its
                reason (`stopped.txt`).
            gpu_share: fraction of a GPU that a rank requests; below 1, an engine shares the GPU.
        """
        self._verdict = Path(run_dir) / "stopped.txt"
        self._verdict.unlink(missing_ok=True)
        resources = {"CPU": config.cpus_per_worker, **config.resources}
        if config.use_gpu:
            resources["GPU"] = gpu_share
        self._trainer = _Trainer(
            _run_rank,
            train_loop_config={
                "worker": worker,
                "task": ray.put(task),
                "verdict": str(self._verdict),
            },
            torch_config=TorchConfig(backend=collective_backend(config.use_gpu)),
            scaling_config=ScalingConfig(
                num_workers=config.workers,
                use_gpu=config.use_gpu,
                resources_per_worker=resources,
            ),
            run_config=RunConfig(
                name="ray_train",
                storage_path=run_dir,
                failure_config=FailureConfig(max_failures=config.max_restarts),
            ),
        )
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._fit, name="learner", daemon=True)
        self._thread.start()

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:
            if of_ray(error):
                self._error = error  # Ray Train's own process died
                return
            self._error = LearnerFailed(last_sentence(str(error)))
            self._error.__cause__ = error

    def error(self) -> BaseException | None:
        """Why the group gave up or a guard ended the run; None while neither has happened.

        A `RayError` if Ray Train's own process died.
        """
        if self._verdict.exists():
            self._error = LearnerFailed(self._verdict.read_text("utf-8"))
        return self._error

    def join(self) -> None:
        """Wait for the end of the loop.

        Raises:
            LearnerFailed: it failed.
            RayError: Ray Train's own process died.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error


def _run_rank(settings: dict[str, Any]) -> None:
    # Name and reference instead of class and task: Ray Train's controller unpickles this too, and
    # would import the whole learner (12 CPU seconds) without using it.
    module, name = settings["worker"].split(":")
    worker = getattr(importlib.import_module(module), name)
    guarded(lambda: worker(ray.get(settings["task"])).run(), settings["verdict"])


def guarded(work: Callable[[], None], verdict: str) -> None:
    """Do a rank's work; if a guard ends it, leave the reason where the Driver looks.

    Ray Train retries whatever is raised, and would carry on past the fault.
    """
    try:
        work()
    except GuardFailure as error:
        storage.write_text(verdict, str(error))
        raise


def last_sentence(text: str) -> str:
    """The exception line of a nested traceback, without its class name."""
    if killed := out_of_memory(text):
        return killed
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    pattern = re.compile(r"^[A-Za-z_.]*(?:Error|Exception|Stopped|Failed|Failure)\b:?\s*(.*)")
    for line in reversed(lines):
        match = pattern.match(line)
        if match and match.group(1):
            return match.group(1)
    return lines[-1] if lines else text
