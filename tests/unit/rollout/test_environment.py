from __future__ import annotations

import os
import subprocess
import sys

from olmrl.config.schema import RolloutConfig
from olmrl.rollout.environment import engine_environment


def test_cpu_engines_run_as_many_threads_as_they_reserve_and_see_no_gpu() -> None:
    environment = engine_environment(RolloutConfig(cpus_per_worker=3.0), use_gpu=False)
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert engine_environment(RolloutConfig(cpus_per_worker=0.5), False)["OMP_NUM_THREADS"] == "1"


def test_gpu_engines_keep_threads_compilation_and_devices_as_they_are() -> None:
    environment = engine_environment(RolloutConfig(), use_gpu=True)
    assert not {"OMP_NUM_THREADS", "TORCHDYNAMO_DISABLE", "CUDA_VISIBLE_DEVICES"} & set(environment)


def test_engines_take_turns_on_the_cores_they_may_use() -> None:
    code = (
        "import os; from olmrl.rollout.environment import pin_to_cores; "
        "before = sorted(os.sched_getaffinity(0)); pin_to_cores({slot}, 1); "
        "print(before.index(*os.sched_getaffinity(0)), len(before))"
    )
    for slot in (0, 1, 5):
        done = subprocess.run(
            [sys.executable, "-c", code.format(slot=slot)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
        )
        place, count = map(int, done.stdout.split())
        assert place == slot % count
