"""Wait until a Ray cluster has its nodes: `RAY_ADDRESS=... python launch/wait_for_nodes.py COUNT`.

Exits with 0 once COUNT nodes are alive, with 1 if they are not within `--timeout` seconds.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time

import ray

_POLL_S = 1.0


def alive_nodes() -> int:
    """Number of nodes of the connected cluster."""
    return sum(node["Alive"] for node in ray.nodes())


def connect(deadline: float) -> bool:
    """Join the cluster; its head may still be starting."""
    while time.monotonic() < deadline:
        try:
            ray.init(address=os.environ["RAY_ADDRESS"], logging_level=logging.CRITICAL)
            return True
        except (ConnectionError, RuntimeError, ValueError):  # what Ray raises while it is starting
            time.sleep(_POLL_S)
    return False


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(prog="wait_for_nodes.py")
    parser.add_argument("count", type=int, help="nodes to wait for, including the head")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds (default 600)")
    arguments = parser.parse_args(argv)
    if "RAY_ADDRESS" not in os.environ:
        parser.error("set RAY_ADDRESS to the cluster, HOST:PORT")
    deadline = time.monotonic() + arguments.timeout
    alive = 0
    if connect(deadline):
        while (alive := alive_nodes()) < arguments.count and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        ray.shutdown()
    if alive < arguments.count:
        sys.stderr.write(
            f"wait_for_nodes.py: {alive} of {arguments.count} Ray nodes at "
            f"{os.environ['RAY_ADDRESS']} after {arguments.timeout:g} s\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
