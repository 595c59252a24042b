"""A long tiny GRPO run with its hf engine, and what each of its processes uses meanwhile."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import psutil
from failures.running import TITLES, Running, words
from failures.tiny import Recipe

from .scripted import folder_mib

_EVERY_S = 5.0
_SIZE = re.compile(r"Plasma memory usage ([0-9.]+) MiB, (\d+) objects")


def watch(
    material: Path, out: Path, minutes: float, say: Callable[[str], None]
) -> tuple[list[dict[str, float]], list[str], float]:
    """Run for some minutes; sample; stop by SIGTERM as a user would.

    Returns:
        Samples, faults, and the length in seconds from the first step to the signal.
    """
    # Deferred: Ray takes seconds to import.
    import ray
    from ray._private.internal_api import memory_summary

    ray.init(
        address="local",
        num_cpus=8,
        object_store_memory=512 << 20,
        include_dashboard=False,
        logging_level="ERROR",
        configure_logging=False,
        log_to_driver=False,
    )
    address = ray.get_runtime_context().gcs_address
    endless = ("run.epochs=1000000", f"cluster.address={address}", "checkpoint.every=10")
    recipe = Recipe("grpo", staleness=1)
    running = Running(recipe.command(material, out, *endless, "logging.wandb=off"), out, {})
    samples: list[dict[str, float]] = []
    while running.alive and not running.trained():
        time.sleep(1.0)
    began = time.monotonic()
    while running.alive and time.monotonic() - began < 60 * minutes:
        sample = _processes(running)
        usage = _SIZE.search(memory_summary(address, stats_only=True))
        if usage:
            sample |= {"object_store_mib": float(usage[1]), "objects": float(usage[2])}
        sample |= {
            "seconds": time.monotonic() - began,
            "step": float(running.trained()),
            "run_directory_mib": folder_mib(out),
        }
        samples.append(sample)
        if len(samples) % 12 == 0:
            say(f"{sample['seconds'] / 60:.1f} min, step {sample['step']:.0f}")
        time.sleep(_EVERY_S)
    length = time.monotonic() - began
    faults = [] if running.alive else [f"ended {running.process.poll()} by itself"]
    if running.alive:
        running.process.terminate()
        code = running.process.wait(600)
        if code != 143:
            faults.append(f"ended {code} after SIGTERM")
    ray.shutdown()
    return samples, faults, length


def _processes(running: Running) -> dict[str, float]:
    """Memory (proportional to who shares it would cost too much: resident less shared) and files.

    By role, summed over its processes. Ray's workers are children of this process's node.
    """
    found: dict[str, float] = defaultdict(float)
    driver = psutil.Process(running.process.pid)
    named = [("driver", driver)]
    for process in psutil.Process().children(recursive=True):
        role = next((r for r, t in TITLES.items() if any(x in words(process) for x in t)), None)
        if role is not None and role != "data":
            named.append((role, process))
    for role, process in named:
        try:
            memory = process.memory_info()
            found[f"{role}/mib"] += (memory.rss - memory.shared) / 2**20
            found[f"{role}/files"] += process.num_fds()
        except psutil.Error:  # it ended meanwhile
            continue
    return dict(found)
