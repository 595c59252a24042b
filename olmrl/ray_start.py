"""Start Ray for this machine alone, where no other machine reaches it, or join a cluster."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import ray
from ray._private import ray_constants
from ray.exceptions import AuthenticationError

from olmrl.errors import RunStopped

HOST = "127.0.0.1"

_LOCAL = {
    # only this machine can reach the cluster; one that is joined has decided for itself
    "RAY_AUTH_MODE": "disabled",
    # by default Ray gives workers the lowest priority, but ours are not background work
    "RAY_worker_niceness": "0",
    # nobody takes the only node away and leaves the rest of the cluster
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
"""Of a cluster that is started here: Ray's settings, unless the user has set them."""

_QUIET: Any = {"logging_level": "ERROR", "log_to_driver": False, "configure_logging": False}

Started = TypeVar("Started")
_PATIENCE_S = 240.0
_REACH_S = 5.0
"""Longest time to reach a cluster's port."""
_TOKEN_HELP = (
    "set RAY_AUTH_MODE=token (`ray start` asks for one, unbidden, where ~/.ray/auth_token exists) "
    "and see that RAY_AUTH_TOKEN or that file holds the cluster's token"
)


def start_local(environment: Mapping[str, str] | None = None, **settings: Any) -> None:
    """Start Ray on this machine, on loopback.

    Args:
        environment: variables of its workers. They inherit them: as Ray's `runtime_env` they would
            cost each worker a second of CPU, as Ray imports itself in one process that sets them,
            and again in the worker.
        settings: further ones of `ray.init`.

    Raises:
        RunStopped: this machine is too loaded to start Ray.
    """
    for name, value in _LOCAL.items():
        os.environ.setdefault(name, value)
    # "local", or Ray would join any cluster that is running on this machine
    with loopback() as addresses, _environment(environment or {}):
        start_patiently(
            lambda: ray.init(
                address="local", dashboard_host=HOST, **addresses, **_QUIET, **settings
            )
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


def join(address: str, *, named: str, instead: str, **settings: Any) -> None:
    """Join a running cluster.

    Args:
        address: of the cluster.
        named: what the user calls the address.
        instead: what the user can do without the cluster, for the error.
        settings: further ones of `ray.init`.

    Raises:
        RunStopped: there is none at the address.
    """
    host, port = _endpoint(address)
    try:
        if port is not None:
            # Ray would go on trying for two minutes
            socket.create_connection((host, port), timeout=_REACH_S).close()
        ray.init(address=address, **_QUIET, **settings)
    except (OSError, ValueError, AuthenticationError) as error:  # Ray raises ConnectionError
        if _unauthenticated(error):
            raise RunStopped(
                f"{named} is {address!r}, and the Ray there asks for a token that this process "
                f"does not have; {_TOKEN_HELP}, or {instead}"
            ) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunStopped(
            f"{named} is {address!r}, but no Ray answers there ({reason}); start Ray there, or "
            f"{instead}"
        ) from error


def _unauthenticated(error: BaseException | None) -> bool:
    """Whether Ray, somewhere down the chain of causes, was refused for its token."""
    while error is not None:
        if isinstance(error, AuthenticationError) or "InvalidAuthToken" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _endpoint(address: str) -> tuple[str, int | None]:
    """Host and port of an address; no port for `auto`, which only looks for Ray's own notes."""
    host, _, port = address.removeprefix("ray://").rstrip("/").rpartition(":")
    return host.strip("[]"), int(port) if host and port.isdecimal() else None


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
                    f"average {load:.1f} on {cores} cores); stop other work on it, or use a "
                    "running cluster"
                ) from None


@contextmanager
def loopback() -> Iterator[dict[str, Any]]:
    """Start Ray inside; gives the arguments of `ray.init` that name its addresses.

        with loopback() as addresses:
            ray.init(address="local", **addresses)

    Ray (2.60, `resolve_ip_for_localhost`) replaces the address 127.0.0.1 by one that other machines
    reach, and then listens on all interfaces, except where it does not support clusters of several
    machines (macOS, Windows). Its switch for that is read when Ray is imported, so it is set here
    too, and in the environment for what Ray starts.
    """
    switch = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    before, known = os.environ.get(switch), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[switch], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield {"_node_ip_address": HOST}
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = known
        if before is None:
            del os.environ[switch]
        else:
            os.environ[switch] = before
