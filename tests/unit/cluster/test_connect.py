"""Ray's start-up waits are olmrl's; a Ray too slow is explained by the machine's load."""

import os
import subprocess
import sys

from olmrl.cluster.connect import overloaded

WAIT = "RAY_raylet_start_wait_time_s"
SHOW = f"import os, sys, olmrl; assert 'ray' not in sys.modules; print(os.environ['{WAIT}'])"


def waits(environment):
    command = [sys.executable, "-c", SHOW]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_waits_are_set_before_ray_reads_them_and_the_users_own_stay():
    plain = {name: value for name, value in os.environ.items() if name != WAIT}
    assert waits(plain) == "60"
    assert waits(plain | {WAIT: "7"}) == "7"


def test_a_machine_that_cannot_start_ray_is_told_its_load():
    message = overloaded()
    assert "Ray did not start in 4 attempts" in message and "overloaded (load average" in message
    assert f"{os.cpu_count()} cores" in message and "cluster.address" in message
