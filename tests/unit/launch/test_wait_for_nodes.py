"""`launch/wait_for_nodes.py` against a running Ray."""

import os
import subprocess
import sys

import ray


def wait(launch, address, *arguments):
    return subprocess.run(
        [sys.executable, launch / "wait_for_nodes.py", *arguments],
        env={**os.environ, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_cluster_that_is_there(ray_node, launch):
    done = wait(launch, ray.get_runtime_context().gcs_address, "1")
    assert done.returncode == 0, done.stderr


def test_a_cluster_that_stays_too_small(ray_node, launch):
    address = ray.get_runtime_context().gcs_address
    done = wait(launch, address, "2", "--timeout", "1")
    assert done.returncode == 1
    assert f"1 of 2 Ray nodes at {address}" in done.stderr
