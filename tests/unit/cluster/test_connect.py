"""Ray's start-up waits are olmrl's; a Ray that is too slow is explained by the machine's load."""

import os
import subprocess
import sys

from olmrl.cluster.connect import too_slow

WAIT = "RAY_raylet_start_wait_time_s"
SHOW = f"import os, sys, olmrl; assert 'ray' not in sys.modules; print(os.environ['{WAIT}'])"


def waits(environment):
    command = [sys.executable, "-c", SHOW]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_waits_are_set_before_ray_reads_them_and_the_users_own_stay():
    plain = {name: value for name, value in os.environ.items() if name != WAIT}
    assert waits(plain) == "240"
    assert waits(plain | {WAIT: "7"}) == "7"


def test_a_node_that_came_too_late_names_the_load():
    # the words of ray._private.node
    message = too_slow(Exception("The current node timed out during startup. This could happen"))
    assert "did not start within 240 s" in message and "overloaded (load average" in message
    assert f"{os.cpu_count()} cores" in message
    assert too_slow(ValueError("no such address")) is None
