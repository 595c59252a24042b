"""Waiting for groups and evaluations while still sending weights to engines that join.

Groups and evaluations need engines that generate. Some transports keep no published copy of the
weights: an engine that joins, at the start or in place of one that died, then generates nothing
until the learner has sent it the weights. So the learner keeps serving such engines while it waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray

from olmrl.weight_sync.transport import WeightSender

_LOOK_EVERY_S = 1.0


def await_engines(
    ask: Callable[[], Any],
    sender: WeightSender,
    publish: Callable[[], Any],
    max_over_ranks: Callable[[Sequence[float]], list[float]],
) -> Any:
    """Get a Ray answer, sending weights to engines that join meanwhile.

    A collective: every rank waits for an answer of its own, and all leave together.

    Args:
        ask: gives an ObjectRef of the answer. Asked again after weights were sent, for which
            engines that share the learner's GPUs have been awake.
        sender: the learner's sender.
        publish: sends the present weights, on every rank.
        max_over_ranks: elementwise maximum.
    """
    if not sender.serves_joiners:
        return ray.get(ask())
    answer = ask()
    while True:
        ready, _ = ray.wait([answer], timeout=_LOOK_EVERY_S)
        missing, joined = max_over_ranks([float(not ready), float(sender.pending())])
        if joined:
            publish()
            answer = ask()
        elif not missing:
            return ray.get(answer)
