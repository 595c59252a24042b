"""A tiny run in processes of its own, watched through what it writes."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from .marking import MARK
from .tiny import EVALUATE_EVERY

ROOT = Path(__file__).parents[2]
_POLL_S = 0.002
HEAD = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_enable_worker_prestart": "0",
    "RAY_worker_niceness": "0",
}
"""Environment of Ray on one machine: idle workers would only take time to start, and its own
priority of workers, the lowest, would lose against whatever else runs here."""
START_S = 60.0
"""Place of the moment `start`: so long after the command at most."""

TITLES = {
    "buffer": ("RolloutBuffer", "StepFeed"),
    "store": ("WeightStore",),
    "engine": ("RolloutWorker",),
    "scorer": ("ScorerWorker",),
    "learner": ("RayTrainWorker",),
    "controller": ("TrainController",),
    "data": ("MapBatches", "ray::Map", "ReadRange"),
    "raylet": ("/raylet/raylet",),
    "gcs": ("/gcs/gcs_server",),
}
"""Parts of the command lines of a role's processes, where Ray writes what they run."""


class Node(NamedTuple):
    """A Ray cluster of this machine that runs may join."""

    address: str
    processes: Sequence[int]
    """Ids of those that the cluster's workers descend from."""


class Running:
    """One start of a run.

    Args:
        command: its command line.
        out: run directory.
        environment: variables besides this process's own.
        wrapper: words before the command (a namespace).
        beside: folder for what the harness keeps; None: that of the run directory.
        node: what it joins; None: it starts a Ray node of its own.
        name: of the files that the harness keeps; None: the run directory's.
    """

    def __init__(
        self,
        command: Sequence[str],
        out: Path,
        environment: Mapping[str, str],
        wrapper: Sequence[str] = (),
        beside: Path | None = None,
        node: Node | None = None,
        name: str | None = None,
    ) -> None:
        self.out = out
        self._node = node
        beside = beside or out.parent
        self.console = beside / f"{name or out.name}.log"
        # a node that is joined has had its environment for long
        self._mark = Path(os.environ.get(MARK) or beside / f"{name or out.name}.sync")
        if name is None:
            self._mark.unlink(missing_ok=True)
        self._log = out / "logs" / "learner-0.jsonl"
        self._logged = self._log.stat().st_size if self._log.exists() else 0
        own = {
            "PYTHONPATH": python_path(),
            MARK: str(self._mark),
            "RAY_USAGE_STATS_ENABLED": "0",
            "WANDB_MODE": "offline",
            "WANDB_SILENT": "true",
        }
        self.tend: Callable[[], None] = lambda: None
        """Called while it is waited for: replaces what a failure has cost its surroundings."""
        self.began = time.monotonic()
        self._shown = self.console.stat().st_size if self.console.exists() else 0
        with self.console.open("ab") as stream:
            self.process = subprocess.Popen(
                [*wrapper, *command],
                cwd=ROOT,
                env={**os.environ, **HEAD, **own, **environment},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    # -- what it is made of

    def processes(self) -> list[psutil.Process]:
        """Driver, what it has started, and the workers of the cluster that it has joined."""
        found = descendants(self.process.pid)
        for process in self._node.processes if self._node else ():
            found += [p for p in descendants(process) if words(p).startswith("ray::")]
        return found

    def of(self, role: str) -> list[psutil.Process]:
        """Living processes of a role."""
        if role == "driver":
            return [psutil.Process(self.process.pid)] if self.alive else []
        return titled(self.processes(), TITLES[role])

    @property
    def alive(self) -> bool:
        """Whether the Driver runs."""
        return self.process.poll() is None

    def said(self) -> str:
        """What the console has shown since this start."""
        with self.console.open("rb") as stream:
            stream.seek(self._shown)
            return stream.read().decode("utf-8", "replace")

    def sweep(self, known: Sequence[psutil.Process] = ()) -> int:
        """End what is left of it; returns how many processes were.

        Args:
            known: descendants seen while the Driver lived.
        """
        own: set[psutil.Process] = set()
        with contextlib.suppress(psutil.NoSuchProcess):
            own = set(psutil.Process(self.process.pid).children(recursive=True))
        left = [p for p in {*known, *own} if p.is_running()]
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.alive:
            self.process.kill()
        self.process.wait()
        return len(left)

    # -- how far it is

    def trained(self) -> int:
        """Newest step in steps.jsonl."""
        rows = read_jsonl(self.out / "steps.jsonl")
        return int(rows[-1]["step"]) if rows else 0

    def learnt(self) -> int:
        """Newest step that the learner has told of in its log since this start."""
        rows = read_jsonl(self._log, self._logged)
        known = [row for row in rows if row["event"] in ("step", "begins")]
        return int(known[-1]["version"].split(".")[1]) if known else 0

    def wait_for(self, moment: str, step: int, rng: random.Random, until: float) -> bool:
        """Wait for a moment at or after a step; False if the run ends, or `until` comes, before it.

        Args:
            moment: of `MOMENTS`.
            step: the learner has made so many.
            rng: draws the place within the moment.
            until: time (monotonic).
        """
        if moment == "start":
            return self._sleep(rng.random() * START_S, until)
        while self.learnt() < step:
            if not self._sleep(0.1, until):
                return False
        if moment == "step":
            return self._sleep(rng.random() * 0.5, until)
        if moment == "sync":  # a learner that was killed has left it
            self._mark.unlink(missing_ok=True)
        seen = {
            "sync": self._mark.exists,
            "save": self._is_saving,
            "evaluation": self._is_evaluating,
            "export": (self.out / ".model.new").exists,
        }[moment]
        while not seen():
            if not self._sleep(0.05 if moment == "evaluation" else _POLL_S, until):
                return False
        return moment != "evaluation" or self._sleep(rng.random() * 0.5, until)

    def _is_saving(self) -> bool:
        return any(self.out.glob("checkpoints/.step-*.partial"))

    def _is_evaluating(self) -> bool:
        step = self.learnt()
        if not step or step % EVALUATE_EVERY:
            return False
        rows = read_jsonl(self.out / "metrics.jsonl")
        return not any(row["step"] == step and is_evaluation(row) for row in rows)

    def _sleep(self, seconds: float, until: float) -> bool:
        time.sleep(seconds)
        self.tend()
        return self.alive and time.monotonic() < until


@contextlib.contextmanager
def ray_head(folder: Path) -> Iterator[Node]:
    """A Ray node of this process for runs to join, one after the other.

    A run that joins starts in half the time; its node cannot be killed without the others'.

    Args:
        folder: for the mark of its runs' weight syncs.
    """
    # Deferred: Ray takes seconds to import.
    import ray
    from ray.cluster_utils import Cluster

    from olmrl.ray_start import start_patiently

    os.environ |= HEAD | {"PYTHONPATH": python_path(), MARK: str(folder / f"sync-{os.getpid()}")}
    settings: dict[str, Any] = {
        "num_cpus": 6,
        "object_store_memory": 512 << 20,
        "include_dashboard": False,
        "no_monitor": True,
        "include_log_monitor": False,
    }
    logging.getLogger("ray").setLevel(logging.ERROR)
    cluster = start_patiently(lambda: Cluster(initialize_head=True, head_node_args=settings))
    try:
        ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
        started = [process.pid for process in psutil.Process().children()]
        yield Node(cluster.address, started)
    finally:
        ray.shutdown()
        cluster.shutdown()


def python_path() -> str:
    """PYTHONPATH of runs and of the Ray nodes that they join."""
    path = [str(ROOT / "benchmarks"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.pathsep.join(dict.fromkeys(filter(None, path)))


def descendants(process: int) -> list[psutil.Process]:
    """A process and everything below it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(process)
        return [top, *top.children(recursive=True)]
    return []


def is_evaluation(row: Mapping[str, Any]) -> bool:
    """Whether a row of metrics.jsonl tells of held-out pages and of no step."""
    return not is_step(row) and any(name.startswith("eval/") for name in row)


def is_step(row: Mapping[str, Any]) -> bool:
    """Whether a row of metrics.jsonl tells of a training step."""
    return "policy/lr" in row


def read_jsonl(path: Path, begin: int = 0) -> list[dict[str, Any]]:
    """Whole rows of a file that may be growing, from a byte on."""
    if not path.exists():
        return []
    lines = path.read_bytes()[begin:].decode("utf-8").split("\n")[:-1]
    rows = []
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def titled(processes: Sequence[psutil.Process], titles: Sequence[str]) -> list[psutil.Process]:
    """Those with one of these words in their command line.

    Without the children that one of them has just forked: what a raylet starts bears the raylet's
    name until it becomes a worker.
    """
    found = [p for p in processes if any(title in words(p) for title in titles)]
    known = {process.pid for process in found}
    first = []
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.ppid() not in known:
                first.append(process)
    return first


def words(process: psutil.Process) -> str:
    """Its command line."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
