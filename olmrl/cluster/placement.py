"""Which process goes to which node (pure), and the bundles that reserve the engines' part.

This follows Ray's own rules, so that `--dry-run` shows what will happen: one placement group packs
the engines, Ray Train's packs the learner ranks, and scorers go to nodes without GPUs as long as
those have room (Ray's scheduler avoids GPU nodes for such actors). Only rendering tasks are shown
where they would run best; in fact Ray Data spreads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from olmrl.cluster.resources import Node, PlanError, Resources
from olmrl.config.schema import RolloutConfig

Bundle = dict[str, float]
"""Resources that one process needs on one node, under Ray's names."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A process and its node."""

    role: str
    index: int
    """Index of the process within its role."""
    node: int
    """Index of the node in `Resources.nodes`."""


@dataclass(slots=True)
class _Free:
    """What is left of a node."""

    node: Node
    left: Bundle = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.left = {"CPU": self.node.cpus, "GPU": self.node.gpus, **self.node.extra}

    def holds(self, bundle: Mapping[str, float]) -> bool:
        return all(self.left.get(name, 0.0) >= need for name, need in bundle.items())

    def take(self, bundle: Mapping[str, float]) -> None:
        for name, need in bundle.items():
            self.left[name] -= need


def bundle(cpus: float, gpus: float, extra: Mapping[str, float]) -> Bundle:
    """The resources of one process, without zeros."""
    return {k: v for k, v in {"CPU": cpus, "GPU": gpus, **extra}.items() if v}


def split_gpus(whole: Bundle) -> list[Bundle]:
    """A bundle without its GPUs, then one bundle for each of them."""
    rest = {name: amount for name, amount in whole.items() if name != "GPU"}
    return [rest, *({"GPU": 1.0} for _ in range(int(whole.get("GPU", 0))))]


def engine_bundles(config: RolloutConfig, use_gpu: bool) -> list[Bundle]:
    """One bundle for each engine that the run requires.

    A bundle never spans nodes, so all GPUs of a tensor-parallel engine are in one bundle.
    """
    gpus = config.tensor_parallel_size * config.gpu_share if use_gpu else 0.0
    return [bundle(config.cpus_per_worker, gpus, config.resources)] * config.min_workers


def place(wanted: Sequence[tuple[str, Bundle]], resources: Resources) -> tuple[Seat, ...]:
    """A seat for every process, in the order given.

    Args:
        wanted: (role, bundle) per process; those that need several GPUs on one node come first.
        resources: the nodes.

    Raises:
        PlanError: a process fits on no node, or no node has room left for it.
    """
    free = [_Free(node) for node in resources.nodes]
    used: dict[str, Counter[int]] = {}
    seats = []
    for role, needs in wanted:
        mine = used.setdefault(role, Counter())
        fitting = [k for k, space in enumerate(free) if space.holds(needs)]
        if not fitting:
            raise PlanError(_no_room(role, needs, free))
        on_gpu = bool(needs.get("GPU"))

        def rank(k: int, on_gpu: bool = on_gpu, mine: Counter[int] = mine) -> tuple[float, ...]:
            space = free[k]
            if on_gpu:  # fill a node that this role already uses, else the emptiest one
                return (-float(mine[k] > 0), -space.left["GPU"], k)
            return (float(space.node.gpus > 0), -space.left["CPU"], k)

        chosen = min(fitting, key=rank)
        free[chosen].take(needs)
        seats.append(Seat(role, mine.total(), chosen))
        mine[chosen] += 1
    return tuple(seats)


def _no_room(role: str, needs: Bundle, free: Sequence[_Free]) -> str:
    """Why a process has no seat: no node is large enough, or all are full."""
    text = ", ".join(f"{name} {need:g}" for name, need in needs.items())
    most = {
        name: max((_Free(space.node).left.get(name, 0.0) for space in free), default=0.0)
        for name in needs
    }
    short = [name for name, need in needs.items() if most[name] < need]
    if short:
        name = short[0]
        return (
            f"a {role} needs {text} on one node, the largest has {name} {most[name]:g}; "
            + _REMEDY.get(name, f"start nodes with the resource {name}, or do not request it")
        )
    return (
        f"no node has room left for another {role} ({text}); lower rollout.workers, "
        "learner.workers or scorer.workers, or add nodes"
    )


_REMEDY = {
    "GPU": "lower rollout.tensor_parallel_size, or set learner.use_gpu=false if there are none",
    "CPU": "lower its cpus_per_worker, or start Ray with more CPUs (--num-cpus)",
}
