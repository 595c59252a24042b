"""Waiting for groups and evaluations while still sending weights to engines that join.

Some transports keep no published copy of the weights. With them, an engine that joins, at the start
or in place of one that died, cannot generate until the learner sends it the weights. So the learner
serves such engines while it waits for groups and evaluations.
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

    A collective: every rank waits for its own answer, and all return together.

    Args:
        ask: returns an ObjectRef of the answer. Called again after weights were sent, as engines
            that share the learner's GPUs woke for that.
        sender: the learner's sender.
        publish: sends the current weights, on every rank.
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
