"""The order of the pages of an epoch."""

from __future__ import annotations

import numpy as np

from olmrl.types import Int64Array


def order(count: int, seed: int, epoch: int) -> Int64Array:
    """[count] item numbers in the order of an epoch; a pure function of its arguments."""
    return np.random.default_rng([seed, epoch]).permutation(count).astype(np.int64)


def first_place(item: int, count: int, seed: int | None) -> int:
    """Place of an item in the order of epoch 0; without a seed the items keep their own order."""
    return item if seed is None else int(np.flatnonzero(order(count, seed, 0) == item)[0])
