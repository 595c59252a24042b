"""The connection to Ray: join the job's cluster, or start one on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from olmrl.cluster.gpu_look import check_gpus
from olmrl.cluster.plan import ENGINE, Plan, Role, check
from olmrl.cluster.reserve import wait_for_nodes
from olmrl.cluster.resources import Node, PlanError, Resources, from_ray
from olmrl.ray_start import join, start_local

_PASSED_ON = ("HF_HUB_OFFLINE", "HF_HOME", "OLMRL_CACHE", "OLMRL_EQUATIONS_RENDERER")
"""Environment variables that workers must share with the Driver."""


def connect(
    address: str | None,
    local_cpus: int | None,
    plan: Plan,
    dashboard: bool,
    wait_s: float = 0.0,
    say: Callable[[str], None] = lambda line: None,
) -> Resources:
    """Join the job's Ray cluster, or start one on this machine with the CPUs the plan needs.

    CPUs of a local cluster are logical, so that a small machine can run all roles side by side.
    Its address is on loopback (docs/security.md).

    Args:
        address: of the cluster to join; None uses RAY_ADDRESS or, without it, starts a cluster.
        local_cpus: CPUs of a cluster started here; None takes what the plan needs.
        plan: what the run starts.
        dashboard: whether a cluster started here has one.
        wait_s: longest time for a joined cluster to start the plan's nodes, in seconds.
        say: prints a line of progress while waiting.

    Raises:
        PlanError: the cluster is too small.
        RunStopped: this machine is too loaded to start Ray, or nothing answers at the address.
    """
    joins = address or os.environ.get("RAY_ADDRESS")
    if joins and joins != "local":
        join(
            joins,
            named="cluster.address or RAY_ADDRESS",
            instead="unset both to start one on this machine",
            runtime_env={"env_vars": worker_environment()},
        )
    else:
        count = local_cpus or max(round(plan.cpus + 1), os.cpu_count() or 1)
        check(
            replace(plan, roles=tuple(replace(r, gpus=0.0) for r in plan.roles)),
            Resources((Node(float(count)),)),
        )
        start_local(worker_environment(), num_cpus=count, include_dashboard=dashboard)
    try:
        resources = from_ray(ray.nodes())
        check(plan, resources)
    except PlanError as error:
        if not joins or joins == "local":
            raise
        if not wait_s:
            raise PlanError(f"{error}; if it starts nodes when asked, set cluster.wait_s") from None
        wait_for_nodes(plan, wait_s, say)
        resources = from_ray(ray.nodes())
        check(plan, resources)
    return resources


def beside_driver() -> dict[str, Any]:
    """Ray options for actors that a run cannot lose: they go to the Driver's node."""
    node = ray.get_runtime_context().get_node_id()
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}


def start_ray(engines: int | None, gpus_per_engine: int | None) -> tuple[int, int]:
    """Start or join Ray for a command that only needs engines.

    Args:
        engines: how many; None: one for each share of the cluster's GPUs, or one without GPUs.
        gpus_per_engine: None: one if the cluster has any.

    Returns:
        Engines, and GPUs of each.

    Raises:
        PlanError: fewer CPUs or GPUs than requested, or one that cannot be used.
    """
    role = Role(ENGINE, engines or 1, 1.0, float(gpus_per_engine or 0))
    resources = connect(None, None, Plan((role,), None), dashboard=False)
    gpus = gpus_per_engine
    if gpus is None:
        gpus = 1 if resources.gpus >= (engines or 1) else 0
    count = engines or max(1, int(resources.gpus // gpus) if gpus else 1)
    check_gpus(Plan((replace(role, count=count, gpus=float(gpus)),), None))
    return count, gpus


def worker_environment() -> dict[str, str]:
    """Environment of every worker: quiet libraries, and one thread unless the user sets more.

    Variables from the runtime environment of `ray job submit` are left out: they are set already,
    and Ray rejects setting them twice.
    """
    defaults = {
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    passed = {k: v for k, v in os.environ.items() if k in _PASSED_ON}
    wanted = {k: os.environ.get(k, v) for k, v in defaults.items()} | passed
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    given = job.get("runtime_env", {}).get("env_vars", {})
    return {name: value for name, value in wanted.items() if name not in given}
