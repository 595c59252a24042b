"""FITS or DOES NOT FIT, why, and what to change: the first lines of a plan."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from olmrl import shipped
from olmrl.cluster import Node, PlanError, Resources, describe, make_plan, parse_cluster, refusal
from olmrl.cluster.advise import fits
from olmrl.cluster.describe import improvements, slow, unused
from olmrl.cluster.plan import Plan
from olmrl.config import GrpoConfig, SftConfig, load
from olmrl.doctor.facts import Facts
from olmrl.preflight.machine import machine_of

_MOST_SHIPPED = 2
"""Shipped configurations named where nothing else fits."""


class Verdict(NamedTuple):
    """Whether a plan fits."""

    text: str
    """The whole plan; its first line says whether it fits."""
    refusal: PlanError | None


def verdict(plan: Plan, resources: Resources | None, where: str) -> Verdict:
    """Judge a plan and lay it out.

    Args:
        plan: what a run starts.
        resources: what it can have; None: that of a cluster which is seen at the start only.
        where: what the resources are called.
    """
    body = describe(plan, resources)
    if resources is None:
        return Verdict(f"NOT COMPARED with {where}: the start does\n\n{body}", None)
    refused = refusal(plan, resources)
    if refused is None and plan.shape is None:
        head = [_unknown(plan, where)]
    elif refused is None:
        notes = [*slow(plan, resources), *unused(plan, resources), *improvements(plan, resources)]
        head = [f"FITS on {where}", *notes]
    else:
        head = [f"DOES NOT FIT on {where}: {refused}", *_smaller(plan, resources, refused)]
    return Verdict("\n".join(head) + f"\n\n{body}", refused)


def _unknown(plan: Plan, where: str) -> str:
    """What can be said of a model whose sizes nothing here tells."""
    path = "the model" if plan.config is None else plan.config.model.path
    return (
        f"NOT JUDGED on {where}: CPUs and GPUs suffice, but the shape of {path} is not known here, "
        f"so that memory is not planned; `hf download {path} config.json` makes it known"
    )


def available(
    config: GrpoConfig | SftConfig, plan: Plan, spec: str | None, facts: Facts
) -> tuple[Resources | None, str]:
    """What a run can have, and what to call it.

    Args:
        config: of the run.
        plan: what it starts.
        spec: `--cluster`, or None for where the run would start.
        facts: of this machine.

    Raises:
        PlanError: `spec` is not of its form.
    """
    if spec:
        return parse_cluster(spec), spec
    address = config.cluster.address or os.environ.get("RAY_ADDRESS")
    if address and address != "local":
        return None, f"the cluster at {address}"
    machine = machine_of("auto" if config.learner.use_gpu else "cpu", facts)
    # A Ray that the run starts itself counts as many CPUs as the run asks for.
    cpus = float(config.cluster.local_cpus or max(round(plan.cpus + 1), facts.cores))
    nodes: tuple[Node, ...] = tuple(replace(n, cpus=cpus) for n in machine.resources.nodes)
    return Resources(nodes), machine.title


def _smaller(plan: Plan, resources: Resources, refused: PlanError) -> Iterator[str]:
    """Shipped configurations that fit, where no few keys help; with the user's model first."""
    if plan.config is None or "it fits with" in str(refused):
        return
    schema = type(plan.config)
    folder = "grpo" if isinstance(plan.config, GrpoConfig) else "sft"
    said = 0
    for own in (True, False):
        for file in sorted((shipped.FOLDER / folder).glob("*.yaml")):
            config = load(schema, file)
            path = plan.config.model.path if own else config.model.path
            tried = load(schema, file, [f"model.path={path}"])
            if tried.learner.use_gpu != plan.config.learner.use_gpu or said == _MOST_SHIPPED:
                continue
            try:
                other = make_plan(tried, resources)
            except PlanError:
                continue
            if other.shape is not None and fits(other, resources):
                said += 1
                yield f"  configs/{folder}/{file.name} fits with model.path={path}"
