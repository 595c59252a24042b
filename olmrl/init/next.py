"""What a user does after `olmrl init`, and in place of a run that is too slow; as commands."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from olmrl.cluster import PlanError, parse_cluster
from olmrl.init.data import PagesFound
from olmrl.init.propose import propose
from olmrl.preflight.machine import Machine
from olmrl.read.model import Taught

_GPUS = ("1x1x4090-24G", "1x1xL40S-48G", "1x1xH100-80G", "1x8xH100-80G")
"""Machines to rent, from the cheapest."""


def next_steps(method: str, path: str, machine: Machine) -> Iterator[str]:
    """Commands that follow, in order."""
    cluster = f" --cluster {machine.cluster}" if machine.cluster else ""
    file = shlex.quote(path)
    yield f"olmrl {method} --config {file} --dry-run{cluster}"
    yield f"olmrl {method} --config {file}"


def other_ways(
    found: PagesFound, data: str, folder: str, model: str, taught: Taught
) -> Iterator[str]:
    """Commands in place of a run that is too slow, each with what it is for.

    Args:
        found: the pages.
        data: their folder, as it was given.
        folder: where the slow configuration goes.
        model: as it was given.
        taught: how the model was trained to read.
    """
    own, texts = shlex.quote(data), shlex.quote(found.train)
    hardware = cheapest_gpus(found, model, taught)
    if hardware is not None:
        place = shlex.quote(f"{folder}-gpu")
        yield (
            f"olmrl init {place} --data {own} --model {shlex.quote(model)} --hardware {hardware}"
            "   # on a machine with a GPU"
        )
    yield "olmrl quickstart --small   # a tiny model goes through every part, here, in minutes"
    if found.method == "sft":
        place = shlex.quote(f"{folder}-tiny")
        yield f"olmrl synth model tiny --texts {texts}   # then your pages with a tiny model:"
        yield f"olmrl init {place} --data {own} --model tiny --hardware cpu"


def cheapest_gpus(found: PagesFound, model: str, taught: Taught) -> str | None:
    """The cheapest machine with GPUs on which this model fits, for `--hardware`."""
    for name in _GPUS:
        machine = Machine(parse_cluster(name), True, True, name, name)
        try:
            propose(found, model, taught, machine, "run")
        except PlanError:
            continue
        return name
    return None
