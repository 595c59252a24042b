"""One Ray head for all tests; every module works on it as a job of its own.

A head costs 10 CPU seconds and a job one. A job's workers, objects and reservations end with it, so
that modules meet each other's work no more than on a head of their own.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group

from olmrl.ray_start import start_patiently

CPUS = 8
"""Logical ones: they bound what runs side by side, whatever the machine has."""

THREAD_END_S = 5.0
"""Longest wait for the threads that a module has started, all together."""

SUPPORT = Path(__file__).parent
ROOT = SUPPORT.parents[1]


def start_head() -> Cluster:
    """A head with neither autoscaler nor log forwarding: no test looks at those."""
    # Ray's workers come with the first task of their environment; those it starts in advance have
    # none and would never be used.
    # (Ray reads these names as they are written.)
    os.environ["RAY_enable_worker_prestart"] = "0"  # noqa: SIM112
    head = {
        "num_cpus": CPUS,
        "object_store_memory": 512 << 20,
        "include_dashboard": False,
        "no_monitor": True,
        "include_log_monitor": False,
        "_system_config": {"metrics_report_interval_ms": 500},
    }
    return start_patiently(lambda: Cluster(initialize_head=True, head_node_args=head))


@contextmanager
def job(head: Cluster, folder: Path, cpus: int = 4) -> Iterator[None]:
    """This process as a job of the head.

    Args:
        head: of `start_head`.
        folder: of the test module; workers import it, its neighbours and `tests/support`.
        cpus: what tasks and actors may take of the head's.
    """
    paths = [ROOT, SUPPORT, folder, os.environ.get("PYTHONPATH", "")]
    environment = {"PYTHONPATH": os.pathsep.join(map(str, paths)), "HF_HUB_OFFLINE": "1"}
    ray.init(
        address=head.address,
        logging_level="ERROR",
        log_to_driver=False,
        runtime_env={"env_vars": environment},
    )
    before = set(threading.enumerate())
    try:
        if cpus < CPUS:
            assert placement_group([{"CPU": CPUS - cpus}]).wait(60), "the last job still holds CPUs"
        yield
    finally:
        # A thread inside `ray.get` would be torn down with Ray, and the process with it.
        deadline = time.monotonic() + THREAD_END_S
        for thread in set(threading.enumerate()) - before:
            thread.join(max(0.0, deadline - time.monotonic()))
        ray.shutdown()
