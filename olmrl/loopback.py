"""Ray for this machine alone: a node whose servers listen where no other machine reaches them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray._private import ray_constants

HOST = "127.0.0.1"


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
