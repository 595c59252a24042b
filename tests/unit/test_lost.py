"""What a process raises that Ray killed, and in which words a run tells it."""

import os
import subprocess
import sys
import textwrap

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError, WorkerCrashedError

from olmrl.lost import is_fault, is_loss, is_of_node, out_of_memory, part, why

# of Ray 2.60, shortened
KILLED = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node "
    "(IP: 10.0.0.7, ID: 648ac5) was 22.40GB used / 23.54GB limit (0.951)\n"
    "OOM kill reason: Memory usage 5B exceeded threshold of 4B\n"
    "Considered workers: [\nSelected to kill: (Actor(0e8c): job ID=01000000, lease ID=00, task "
    "name=RolloutWorker.__init__, required resources={}, pid=1802, actual memory used=0.13GB)\n]\n"
    "Refer to the documentation on how to address the out of memory issue: https://docs.ray.io"
)
SENTENCE = (
    "Ray killed RolloutWorker, as 22.40GB of the 23.54GB of memory of node 10.0.0.7 were in use: "
    "it needs more memory, or fewer processes"
)


def test_a_process_killed_for_memory_is_a_loss_and_says_so_in_one_sentence():
    error = OutOfMemoryError(KILLED)
    assert is_loss(error) and is_of_node(error) and not is_fault(error)
    assert why(error) == part(error) == SENTENCE


def test_many_that_died_together_are_counted():
    second = "Selected to kill: (Task: job ID=01, task name=ReadRange, pid=1)\n]\nRefer"
    assert "Ray killed 2 processes, as 22.40GB" in out_of_memory(KILLED.replace("]\nRefer", second))


def test_it_is_found_within_ray_trains_report():
    report = f"A worker health check failed.\nTraceback ...\nray.exceptions.{KILLED}\n"
    assert out_of_memory(report) == SENTENCE
    assert out_of_memory("CUDA out of memory. Tried to allocate 2 GiB") == ""


def test_an_error_of_our_own_code_is_no_loss():
    cause = ValueError("no such weight")
    made = RayTaskError("work", "Traceback\nValueError: no such weight", cause)
    assert not is_loss(made) and is_fault(made) and not is_of_node(made)
    assert why(made) == "no such weight"


@pytest.mark.parametrize("error", [ActorDiedError(), WorkerCrashedError()])
def test_other_deaths_are_losses_but_not_of_the_node(error):
    assert is_loss(error) and not is_fault(error) and not is_of_node(error)
    assert why(error) and "\n" not in why(error)


def test_scorers_that_ray_kills_for_memory_are_started_again(tmp_path):
    script = tmp_path / "crowded.py"
    script.write_text(
        textwrap.dedent(
            """
            import time

            import ray
            from olmrl.config.schema import RewardConfig, ScorerConfig
            from olmrl.metrics import flatten
            from olmrl.ray_start import start_patiently
            from olmrl.rewards.pool import ScorerPool

            start_patiently(
                lambda: ray.init(
                    address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
                    configure_logging=False, object_store_memory=80 << 20,
                    _system_config={"memory_usage_threshold": 0.001,
                                    "memory_monitor_refresh_ms": 20},
                )
            )
            pool = ScorerPool(
                [RewardConfig(name="eos")], ScorerConfig(workers=1, cpus_per_worker=0.5), 2
            )
            deaths = 0.0
            until = time.monotonic() + 300
            while deaths < 2 and time.monotonic() < until:
                pool.poll(0.2)
                deaths += flatten(pool.measurements()).get("reward/worker_deaths", 0.0)
            print("deaths", deaths)
            """
        )
    )
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.stdout.strip() == "deaths 2.0", done.stdout + done.stderr
