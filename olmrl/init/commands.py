"""What `olmrl init` does once everything is answered."""

from __future__ import annotations

import argparse
import os

from olmrl import storage
from olmrl.config.explain import SCHEMAS
from olmrl.doctor.facts import gather
from olmrl.init.data import look_at
from olmrl.init.next import next_steps, other_ways
from olmrl.init.propose import propose
from olmrl.init.text import commented
from olmrl.models.places import refuse_no_folder
from olmrl.models.registry import FAMILIES
from olmrl.preflight.machine import machine_of
from olmrl.read.model import Taught, find_model

CONFIG = "config.yaml"


def write(options: argparse.Namespace) -> int:
    """Write the configuration and say what comes next.

    Raises:
        ValueError: no such pages or model, or nothing that fits.
    """
    folder = os.path.abspath(options.dir)
    path = os.path.join(folder, CONFIG)
    if os.path.exists(path):
        raise ValueError(f"{path}: already exists and is not overwritten")
    machine = machine_of(options.hardware, gather())
    found = look_at(options.data, options.method)
    model, taught = _model(options.model)
    proposal = propose(found, model, taught, machine, os.path.join(folder, "run"))
    steps = list(next_steps(found.method, path, machine))
    rather: list[str] = []
    if proposal.too_slow:
        rather = list(other_ways(found, options.data, options.dir, options.model, taught))
    head = [
        f"Purpose:  {found.method.upper()} of {proposal.values['model']['path']} on {found.train}.",
        f"Hardware: {machine.title}. Memory was computed for it, not measured.",
        *(f"Note:     {line}." for line in proposal.lines),
        *(["Rather:"] if rather else []),
        *(f"  {step}" for step in rather),
        "Written by `olmrl init`. Keys that are not here have their defaults; for any key:",
        "  olmrl config explain KEY",
        "Next:",
        *(f"  {step}" for step in steps),
    ]
    text = commented(proposal.values, SCHEMAS[found.method], proposal.notes, head)
    storage.write_text(path, text)
    print(f"{path}: {proposal.values['model']['path']} on {machine.title}")
    for line in proposal.lines:
        print(f"  {line}")
    if rather:
        print("rather:")
        for step in rather:
            print(f"  {step}")
    print("with this configuration all the same:" if rather else "next:")
    for step in steps:
        print(f"  {step}")
    return 0


def _model(name: str) -> tuple[str, Taught]:
    """Path and training of a model; a family has neither."""
    if name in FAMILIES:
        return name, Taught()
    if not os.path.isdir(name):
        refuse_no_folder("--model", name)
        released = "olmocr-2" in name.lower()
        return name, Taught(prompt="olmocr-v4") if released else Taught()
    found = find_model(name, None, print)
    return os.path.abspath(found.path), found.taught
