"""Weights sent by vLLM's own trainer engines, which plan a transfer from both sides' layouts.

Such an engine lives on every learner rank, is told of all weights before the first is sent, and
calls the engines' update cycle itself. What it takes is here: a source of weights, a client that
speaks to a fleet, and a `WeightSender` around both. vLLM 0.32 and 0.33 differ in how a source is
asked; both are served.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import ray
import torch
from vllm.distributed.weight_transfer import WeightTransferTrainerFactory, base

from olmrl.config.schema import WeightSyncConfig
from olmrl.errors import LinkBroken
from olmrl.metrics import Measurements
from olmrl.models.family import Family
from olmrl.types import PolicyVersion
from olmrl.weight_sync import checksum
from olmrl.weight_sync.fleet import Fleet
from olmrl.weight_sync.gpu_links import on_this_gpu
from olmrl.weight_sync.plan import EngineEntry
from olmrl.weight_sync.publication import NamedTensor

Described = tuple[str, torch.dtype, tuple[int, ...]]
"""Name, dtype and shape of a weight on its way."""


Seats = list[tuple[str, int]]
"""(worker id, GPUs) of each engine."""


class Outgoing:
    """The weights of one version after the other, cast for the way, as often as they are asked for.

    Args:
        wire: dtype in transfer.
        family: The model's.
        grouped: Keep the order of vLLM's gather groups, one a layer, those of no layer last: they
            are held until their turn comes.
    """

    def __init__(self, wire: torch.dtype, family: Family, *, grouped: bool = False) -> None:
        self._wire = wire
        self._family = family
        self._grouped = grouped
        self._named: Iterable[NamedTensor] = ()
        self._sums: checksum.Checksums | None = None

    def become(self, named: Iterable[NamedTensor], sums: checksum.Checksums | None = None) -> None:
        """Take the next version's weights; the first pass over them is counted in `sums`."""
        self._named, self._sums = named, sums

    @cached_property
    def described(self) -> list[Described]:
        """All weights in the order in which they are sent; gathers them once."""
        found = [(name, sent.dtype, tuple(sent.shape)) for name, sent in self._cast(None)]
        if not self._grouped:
            return found
        by_name = {each[0]: each for each in found}
        groups = base.layerwise_groups(list(by_name))
        return [by_name[name] for group in groups for name in group]

    @property
    def num_bytes(self) -> int:
        """Of all weights."""
        return sum(torch.Size(shape).numel() * dtype.itemsize for _, dtype, shape in self.described)

    def __iter__(self) -> Iterator[NamedTensor]:
        """A pass over the weights, in the order of `described`."""
        order = [name for name, _, _ in self.described]
        sums, self._sums = self._sums, None
        return in_order(self._cast(sums), order)

    def _cast(self, sums: checksum.Checksums | None) -> Iterator[NamedTensor]:
        return checksum.cast_and_count(self._named, self._wire, sums, self._family)


def in_order(named: Iterable[NamedTensor], order: Sequence[str]) -> Iterator[NamedTensor]:
    """A stream in another order; what comes too early is held until its turn."""
    waiting = dict[str, torch.Tensor]()
    stream = iter(named)
    for name in order:
        while name not in waiting:
            came = next(stream, None)
            assert came is not None, f"{name} was to be sent"
            waiting[came[0]] = came[1]
        yield name, waiting.pop(name)


def make_source(outgoing: Outgoing, ranks: int) -> Any:
    """vLLM's `WeightSource` over weights that every learner rank holds whole when they are sent.

    Args:
        outgoing: The weights.
        ranks: Learner ranks.
    """

    def passes(_: Any) -> Iterator[NamedTensor]:
        return iter(outgoing)

    def whole(_: Any) -> list[Any]:
        return [base.ParamMeta(*each) for each in outgoing.described]

    if hasattr(base.WeightSource, "iter_full"):  # since 0.33
        members = {"metadata": cached_property(whole), "iter_full": passes, "iter_local": passes}
        return type("Source", (base.WeightSource,), members)()
    # Deferred: 0.33 has neither module nor class.
    from vllm.distributed.weight_transfer import m2n_common, m2n_source  # noqa: PLC0415

    def placed(_: Any) -> list[Any]:
        kept = m2n_common.REPLICATED
        return [m2n_common.M2NParamMeta(*each, kept) for each in outgoing.described]

    members = {
        "mesh": lambda _: m2n_common.M2NMesh((ranks, 1), 0),
        "metadata": placed,
        "__iter__": passes,
    }
    return type("Source", (m2n_source.M2NWeightSource,), members)()


class FleetClient:
    """vLLM's `VLLMWeightSyncClient`: its trainer engine speaks to the engines of a fleet.

    Args:
        fleet: The engines.
        own: What an engine is told at the start beside what all are told.
    """

    def __init__(
        self, fleet: Fleet, own: Callable[[EngineEntry], Mapping[str, Any]] = lambda _: {}
    ) -> None:
        self.fleet = fleet
        self._own = own
        self.calls: dict[Any, EngineEntry] = {}
        """Of the transfer under way, for who watches it."""
        self.version: PolicyVersion | None = None
        """What the next update brings."""

    def init_weight_transfer_engine(self, init_info: Mapping[str, Any]) -> None:
        """Let the engines join."""
        self._call("init_weight_transfer", lambda engine: ({**init_info, **self._own(engine)},))

    def start_weight_update(self) -> None:
        """First of an update's three calls."""
        self._call("start_weight_update")

    def update_weights(self, update_info: Any) -> None:
        """Second; returns when the engines have the weights, so vLLM's engine sends meanwhile."""
        self._call("update_weights", lambda _: (update_info,))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Third; the version is the policy's, of which vLLM's trainer engine knows nothing."""
        assert self.version is not None
        self._call("finish_weight_update", lambda _: (self.version, self.fleet.in_flight))

    def _call(
        self, method: str, arguments: Callable[[EngineEntry], Sequence[Any]] = lambda _: ()
    ) -> None:
        started = self.fleet.start(method, arguments)
        self.calls |= started
        self.fleet.collect(started)
        if self.fleet.failed:
            raise LinkBroken(f"a weight transfer failed: {', '.join(self.fleet.failed)} left it")


class TrainerSender(ABC):
    """A `WeightSender` over vLLM's trainer engines, which are made anew when the fleet changes.

    Args:
        config: In-flight mode, checksum mode.
        fleet: The engines.
        rank: This learner rank; 0 talks to engines.
        outgoing: What is sent.
    """

    serves_joiners = True

    def __init__(
        self, config: WeightSyncConfig, fleet: Fleet, rank: int, outgoing: Outgoing
    ) -> None:
        self._config = config
        self._fleet = fleet
        self._rank = rank
        self._outgoing = outgoing
        self._joined: Seats | None = None
        self._clients: list[FleetClient] = []
        self._trainers: list[Any] = []

    @abstractmethod
    def _transfers(self, seats: Seats) -> list[tuple[Any, FleetClient]]:
        """(init info of vLLM's trainer engine, client) of each transfer to these engines; a
        collective of all ranks, of which only rank 0's clients are called."""

    def send(self, named: Iterable[NamedTensor], version: PolicyVersion) -> Measurements:
        """Let every trainer engine send; see `WeightSender`. `named` is iterated anew for each."""
        started = time.monotonic()
        sender = self._rank == 0
        sums: checksum.Checksums | None = {} if self._config.checksum and sender else None
        self._outgoing.become(named, sums)
        if sender:
            self._fleet.refresh()
        seats = from_first_rank([(e.worker_id, e.ranks) for e in self._fleet.engines])
        if self._joined != seats:
            self._join(seats)
        for client, trainer in zip(self._clients, self._trainers, strict=True):
            client.version = version
            self._watch(client, trainer.send_weights)
        if not sender:
            return {}
        ray.get(self._fleet.store.announce.remote(version))
        self._fleet.mark_synced(version)
        if sums is not None:
            self._fleet.verify(sums)
        seconds = time.monotonic() - started
        return self._fleet.measurements(self._outgoing.num_bytes, seconds)

    def _join(self, seats: Seats) -> None:
        self.close()
        source = make_source(self._outgoing, world_size())
        for info, client in self._transfers(seats):
            make = partial(
                WeightTransferTrainerFactory.trainer_init, info, client=client, source=source
            )
            self._trainers.append(self._watch(client, make))
            self._clients.append(client)
        self._joined = seats

    def _watch(self, client: FleetClient, work: Callable[[], Any]) -> Any:
        """Do a collective; rank 0 leaves it when an engine is gone, and then the others end too."""
        if self._rank != 0:
            return work()
        client.calls = {}
        return client.fleet.collect_while(client.calls, on_this_gpu(work))

    def pending(self) -> bool:
        """See `WeightSender`; engines that failed in the last send are left to the pool."""
        if self._rank != 0:
            return False
        waiting = ray.get(self._fleet.store.unsynced.remote())
        return bool(set(waiting) - set(self._fleet.failed))

    def close(self) -> None:
        """Release vLLM's trainer engines."""
        for trainer in self._trainers:
            trainer.shutdown()
        self._trainers, self._clients, self._joined = [], [], None


def world_size() -> int:
    """Learner ranks."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def from_first_rank(value: Any) -> Any:
    """What learner rank 0 has; a collective of all ranks."""
    if not torch.distributed.is_initialized():
        return value
    held = [value]
    torch.distributed.broadcast_object_list(held, src=0)
    return held[0]
