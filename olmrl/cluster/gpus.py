"""Whether the GPUs that Ray gave are the ones a run needs (pure); `preflight` collects the facts.

Every refusal is one sentence that names the node and what to do there, before any model is loaded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from olmrl.cluster.memory import RUNTIME_BYTES
from olmrl.cluster.plan import ENGINE, LEARNER, Plan, Role
from olmrl.cluster.resources import PlanError
from olmrl.config.schema import GrpoConfig
from olmrl.hardware import CUDA_DRIVERS, GIB

CONTEXT_BYTES = 1.0 * GIB
"""Assumed: what drivers keep of an idle GPU, and the contexts of those that look at it."""


class GpuBusy(PlanError):
    """Another process holds memory that was planned; it may be about to end."""


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU as CUDA sees it."""

    name: str
    total: float
    """Memory in bytes."""
    free: float
    """Bytes that no process holds."""


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """What a process that was given GPUs finds where it stands."""

    role: str
    """For whom it looks: a name of `Plan.roles`."""
    node: str
    """Address of the node."""
    torch: str
    """Version of torch."""
    cuda: str | None
    """CUDA version that torch was built for; None: it was built without."""
    problem: str = ""
    """Why CUDA did not start, in torch's words; empty if it did."""
    cards: tuple[Card, ...] = ()
    """The GPUs that it was given; empty if CUDA did not start."""


def check_facts(plan: Plan, found: Sequence[GpuFacts]) -> None:
    """Judge what was found where the plan's GPU processes would stand.

    Raises:
        PlanError: torch or the driver cannot use a GPU, a GPU is a slice, or processes that work in
            step have GPUs of several kinds.
        GpuBusy: others hold the memory that was planned.
    """
    for facts in found:
        _check_torch(plan, facts)
        _check_whole(facts)
    _check_kinds(found)
    for facts in found:
        role = next(role for role in plan.roles if role.name == facts.role)
        for card in facts.cards:
            _check_free(plan, role, facts.node, card)


def mixed_engines(found: Sequence[GpuFacts]) -> str:
    """A sentence if engines have GPUs of several kinds, which is allowed; empty if not."""
    kinds = _kinds(facts for facts in found if facts.role == ENGINE)
    if len(kinds) < 2:
        return ""
    return f"engines have GPUs of several kinds ({_listed(kinds)}): steps wait for the slowest"


def _check_torch(plan: Plan, facts: GpuFacts) -> None:
    """Whether torch was built for CUDA, and CUDA starts."""
    without = "--gpus 0" if plan.config is None else "learner.use_gpu=false"
    where = f"torch {facts.torch} on node {facts.node}"
    if facts.cuda is None:
        raise PlanError(
            f"{where} was built without CUDA, and a {facts.role} is to use a GPU there; pip "
            f'install -c launch/constraints-gpu.txt "olmrl[gpu]" on that node, or set {without}'
        )
    if not facts.problem:
        return
    old = re.search(r"driver on your system is too old \(found version (\d+)\)", facts.problem)
    if old is None:
        raise PlanError(
            f"{where} cannot use the GPU that Ray gave to a {facts.role}: {facts.problem}; see "
            f"whether nvidia-smi works there, or set {without}"
        )
    least = CUDA_DRIVERS.get(int(facts.cuda.split(".")[0]))
    wanted = f"{least} or newer" if least else f"for CUDA {facts.cuda}"
    has = int(old.group(1))
    raise PlanError(
        f"the NVIDIA driver of node {facts.node} is too old: it has CUDA {has // 1000}."
        f"{has % 1000 // 10}, and torch {facts.torch} was built for {facts.cuda}; install a driver "
        f"{wanted} there"
    )


def _check_whole(facts: GpuFacts) -> None:
    """Whether GPUs are whole."""
    for card in facts.cards:
        if re.search(r"\bMIG\b", card.name):
            raise PlanError(
                f"the GPU of a {facts.role} on node {facts.node} is a MIG slice ({card.name}), "
                "which cannot exchange weights and gradients with other GPUs; switch MIG off "
                "there (nvidia-smi -mig 0), or start Ray with whole GPUs only "
                "(CUDA_VISIBLE_DEVICES)"
            )


def _check_free(plan: Plan, role: Role, node: str, card: Card) -> None:
    """Whether the memory that was planned is free, where another process holds any."""
    planned, key = _planned(plan, role, card)
    held = card.total - card.free
    if held <= CONTEXT_BYTES or planned <= card.free + CONTEXT_BYTES:
        return
    raise GpuBusy(
        f"a {role.name} is planned with {planned / GIB:.1f} GiB of a GPU, but on node {node} "
        f"{card.free / GIB:.1f} of the {card.total / GIB:.1f} GiB of {card.name} are free: other "
        f"processes hold {held / GIB:.1f}; find them there with nvidia-smi and end them, or lower "
        f"{key}"
    )


def _planned(plan: Plan, role: Role, card: Card) -> tuple[float, str]:
    """Bytes of a GPU that a role takes, 0 if unknown; the key that lowers them."""
    if role.name == ENGINE:
        share = 0.0
        if isinstance(plan.config, GrpoConfig) and plan.config.rollout.engine == "vllm":
            share = plan.config.rollout.gpu_memory_utilization
        return share * card.total, "rollout.gpu_memory_utilization"
    return (role.peak + RUNTIME_BYTES if role.peak else 0.0), "learner.token_budget"


def _check_kinds(found: Sequence[GpuFacts]) -> None:
    """Whether ranks, and the GPUs of one engine, are of one kind."""
    kinds = _kinds(facts for facts in found if facts.role == LEARNER)
    if len(kinds) > 1:
        raise PlanError(
            f"the LearnerWorkers would get GPUs of several kinds ({_listed(kinds)}), and work in "
            "step; give the nodes of one kind a resource of their own and name it in "
            "learner.resources (launch/README.md#nodes-of-several-kinds)"
        )
    for facts in found:
        kinds = _kinds([facts])
        if len(kinds) > 1:
            raise PlanError(
                f"a {facts.role} on node {facts.node} would get GPUs of several kinds "
                f"({_listed(kinds)}), and they work in step; start Ray there with GPUs of one kind "
                "(CUDA_VISIBLE_DEVICES)"
            )


def _kinds(found: Iterable[GpuFacts]) -> Counter[str]:
    """How many GPUs there are of each kind; one name may have several sizes of memory."""
    return Counter(
        f"{card.name}, {card.total / GIB:.0f} GiB" for facts in found for card in facts.cards
    )


def _listed(kinds: Counter[str]) -> str:
    return "; ".join(f"{count} x {kind}" for kind, count in kinds.most_common())
