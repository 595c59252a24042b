"""The learner's side of weight sync.

    sender = make_sender(config.weight_sync, store, rank, transport=..., dtype=..., family=...)
    measurements = sender.send(strategy.named_weights(), version)      # on every rank

All ranks iterate over the weights, because gathering a sharded tensor is a collective; only rank 0
talks to engines. An engine that dies during a send is skipped and counted: the pool replaces it.
"""

from __future__ import annotations

from typing import Any

import torch

from olmrl.config.schema import WeightSyncConfig
from olmrl.models.family import Family
from olmrl.weight_sync.fleet import Fleet
from olmrl.weight_sync.transport import WeightSender, load_transport


def make_sender(
    config: WeightSyncConfig,
    store: Any,
    rank: int,
    *,
    transport: str,
    dtype: str,
    family: Family,
    timeout_s: float = 600.0,
) -> WeightSender:
    """The sender of a transport; call it on every learner rank.

    Args:
        config: Bucket size, in-flight mode, checksum mode.
        store: Handle of `store.start_store`, where engines are registered.
        rank: This learner rank; 0 sends.
        transport: From `run_transport`.
        dtype: The engines' precision, used for the transfer.
        family: The model's; it knows the engines' names of weights.
        timeout_s: An engine that does not load the weights in this time is left to the pool.
    """
    fleet = Fleet(store, config.in_flight, timeout_s, family)
    return load_transport(transport).sender(config, fleet, rank, getattr(torch, dtype))
