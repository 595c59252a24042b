"""A long tiny GRPO run with its hf engine, and what each of its processes uses meanwhile."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import psutil
from failures.running import TITLES, Running, ray_head, words
from failures.tiny import Recipe

from .scripted import folder_mib

_RECIPE = Recipe("grpo", staleness=1)
_ENDLESS = (
    "run.epochs=1000000",
    "checkpoint.every=10",
    "logging.wandb=off",
    # the model soon writes the same text always; a run of such groups would end
    "algorithm.drop_zero_variance=false",
)
_EVERY_S = 5.0
_SIZE = re.compile(r"Plasma memory usage ([0-9.]+) MiB, (\d+) objects")


def watch(
    material: Path, out: Path, minutes: float, keep: Path, say: Callable[[str], None]
) -> tuple[list[dict[str, float]], list[str], float]:
    """Run for some minutes; sample; stop by SIGTERM as a user would.

    Each sample is added to the file `keep` as it is taken.

    Returns:
        Samples, faults, and the length in seconds from the first step to the signal.
    """
    keep.unlink(missing_ok=True)
    with ray_head(out.parent) as node:
        command = _RECIPE.command(material, out, *_ENDLESS, f"cluster.address={node.address}")
        running = Running(command, out, {}, node=node)
        try:
            samples, length = _watch(running, node.address, minutes, keep, say)
            faults = _stop(running)
        finally:
            running.sweep()
    return samples, faults, length


def _watch(
    running: Running, address: str, minutes: float, keep: Path, say: Callable[[str], None]
) -> tuple[list[dict[str, float]], float]:
    samples: list[dict[str, float]] = []
    while running.alive and not running.trained():
        time.sleep(1.0)
    began = time.monotonic()
    while running.alive and time.monotonic() - began < 60 * minutes:
        sample = _processes(running) | _object_store(address)
        sample |= {
            "seconds": time.monotonic() - began,
            "step": float(running.trained()),
            "run_directory_mib": folder_mib(running.out),
        }
        samples.append(sample)
        with keep.open("a", encoding="utf-8") as file:
            file.write(json.dumps(sample) + "\n")
        if len(samples) % 12 == 0:
            say(f"{sample['seconds'] / 60:.1f} min, step {sample['step']:.0f}")
        time.sleep(_EVERY_S)
    return samples, time.monotonic() - began


def _object_store(address: str) -> dict[str, float]:
    """What is in Ray's object store; nothing where Ray is too busy to answer in its own time."""
    # Deferred: Ray takes seconds to import.
    from ray._private.internal_api import memory_summary
    from ray.exceptions import RaySystemError

    try:
        usage = _SIZE.search(memory_summary(address, stats_only=True))
    except RaySystemError:
        return {}
    return {"object_store_mib": float(usage[1]), "objects": float(usage[2])} if usage else {}


def _stop(running: Running) -> list[str]:
    """Stop the run as a user would; says what was wrong."""
    if not running.alive:
        return [f"ended {running.process.poll()} by itself"]
    running.process.terminate()
    code = running.process.wait(600)
    return [] if code == 143 else [f"ended {code} after SIGTERM"]


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
