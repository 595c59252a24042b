"""The connection to Ray: join the job's cluster, or start one on this machine."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from olmrl.cluster.gpu_look import check_gpus
from olmrl.cluster.plan import ENGINE, Plan, Role, check
from olmrl.cluster.reserve import wait_for_nodes
from olmrl.cluster.resources import Node, PlanError, Resources, from_ray
from olmrl.errors import RunStopped
from olmrl.loopback import HOST, loopback

Started = TypeVar("Started")
_PATIENCE_S = 240.0
_REACH_S = 5.0
"""Longest time to reach a cluster's port."""

_PASSED_ON = ("HF_HUB_OFFLINE", "HF_HOME", "OLMRL_CACHE", "OLMRL_EQUATIONS_RENDERER")
"""Environment variables that workers must share with the Driver."""

_LOCAL = {
    # only this machine can reach the cluster; one that is joined has decided for itself
    "RAY_AUTH_MODE": "disabled",
    # by default Ray gives workers the lowest priority, but ours are not background work
    "RAY_worker_niceness": "0",
    # nobody takes the only node away and leaves the rest of the cluster
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
"""Of a cluster that is started here: Ray's settings, unless the user has set them."""


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
    settings: dict[str, Any] = {
        "logging_level": "ERROR",
        "log_to_driver": False,
        "configure_logging": False,
    }
    if joins and joins != "local":
        _join(joins, settings | {"runtime_env": {"env_vars": worker_environment()}})
    else:
        count = local_cpus or max(round(plan.cpus + 1), os.cpu_count() or 1)
        check(
            replace(plan, roles=tuple(replace(r, gpus=0.0) for r in plan.roles)),
            Resources((Node(float(count)),)),
        )
        _start_local(num_cpus=count, include_dashboard=dashboard, **settings)
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


def _join(address: str, settings: dict[str, Any]) -> None:
    """Join a running cluster.

    Raises:
        RunStopped: there is none at the address.
    """
    where = f"cluster.address or RAY_ADDRESS is {address!r}"
    advice = "start Ray there, or unset both to start one on this machine"
    host, port = _endpoint(address)
    try:
        if port is not None:
            # Ray would go on trying for two minutes
            socket.create_connection((host, port), timeout=_REACH_S).close()
        ray.init(address=address, **settings)
    except (OSError, ValueError) as error:  # ConnectionError too, which Ray raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunStopped(f"{where}, but no Ray answers there ({reason}); {advice}") from error


def _endpoint(address: str) -> tuple[str, int | None]:
    """Host and port of an address; no port for `auto`, which only looks for Ray's own notes."""
    host, _, port = address.removeprefix("ray://").rstrip("/").rpartition(":")
    return host.strip("[]"), int(port) if host and port.isdecimal() else None


def _start_local(**settings: Any) -> None:
    for name, value in _LOCAL.items():
        os.environ.setdefault(name, value)
    # Workers inherit their environment. As Ray's `runtime_env` it would cost each of them a second
    # of CPU: Ray imports itself in one process that sets the variables, and again in the worker.
    # "local", or Ray would join any cluster that is running on this machine
    with loopback() as addresses, _environment(worker_environment()):
        start_patiently(
            lambda: ray.init(address="local", dashboard_host=HOST, **addresses, **settings)
        )


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment of what is started inside."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def start_patiently(start: Callable[[], Started], patience_s: float = _PATIENCE_S) -> Started:
    """Start Ray, with retries while the machine is too busy for Ray's own timeouts.

    Ray gives a node's agent 15 s and the node 30 s to come up, whatever is configured (ray 2.60;
    ray-project/ray, issue 65983).

    Args:
        start: starts Ray.
        patience_s: no further attempt is made after this many seconds.

    Raises:
        RunStopped: no attempt succeeded; says how busy the machine is.
    """
    began = time.monotonic()
    while True:
        try:
            return start()
        except Exception as error:  # Ray raises the bare class for this
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            waited = time.monotonic() - began
            if waited >= patience_s:
                load, cores = os.getloadavg()[0], os.cpu_count()
                raise RunStopped(
                    f"Ray did not start within {waited:.0f} s: this machine is overloaded (load "
                    f"average {load:.1f} on {cores} cores); stop other work on it, or set "
                    "cluster.address to a running cluster"
                ) from None


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
