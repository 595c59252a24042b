"""A rank's prompt groups of one step, cut into minibatches by groups.

Which groups form a minibatch follows from seed, step, pass and number of groups alone, so ranks
agree without speaking, and neither their number nor the token budget changes what is learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import overload

import numpy as np

from olmrl.data.pack import Column, GroupItem, PackedRow
from olmrl.types import Float32Array, PackedBatch

Rows = list[PackedBatch]


def cut_groups(groups: int, minibatches: int, seed: int, step: int, epoch: int) -> list[list[int]]:
    """Shuffle the groups of a batch and cut them into minibatches that differ by one group at most.

    Args:
        groups: groups of the batch, on all ranks together.
        minibatches: wanted; a last batch with fewer groups is cut into single groups.
        seed: of the run.
        step: of the weights before the batch.
        epoch: pass over the batch, from 0.

    Returns:
        Places of the groups in the batch, by minibatch.
    """
    if minibatches == 1 or groups == 0:
        return [list(range(groups))]
    order = np.random.default_rng([seed, step, epoch]).permutation(groups)
    parts = np.array_split(order, min(minibatches, groups))
    return [sorted(int(place) for place in part) for part in parts]


class Minibatches(Sequence[PackedBatch]):
    """A rank's rows of a step by minibatch, the same in every pass."""

    def __init__(self, parts: Sequence[Sequence[PackedBatch]]) -> None:
        self._rows: list[Rows] = [list(part) for part in parts]

    @overload
    def __getitem__(self, index: int) -> PackedBatch: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> PackedBatch | Rows:
        """Rows of the first pass, minibatch after minibatch."""
        return [row for part in self._rows for row in part][index]

    def __len__(self) -> int:
        """Rows of the first pass."""
        return sum(len(part) for part in self._rows)

    @property
    def minibatch_of(self) -> list[int]:
        """Number of the minibatch of each row of the first pass."""
        return [number for number, part in enumerate(self._rows) for _ in part]

    def rows(self, epoch: int) -> list[Rows]:
        """Rows of a pass by minibatch; this rank may have none in some."""
        return self._rows

    def add_column(self, name: Column, values: Sequence[Sequence[Float32Array]]) -> None:
        """Give every token a number that all passes see.

        Args:
            name: the column.
            values: [N] for each row of `rows(0)`.
        """
        self._rows = [
            [replace(row, **{name: value_N}) for row, value_N in zip(part, columns, strict=True)]  # type: ignore[arg-type]
            for part, columns in zip(self._rows, values, strict=True)
        ]


class GroupMinibatches(Minibatches):
    """A rank's groups, shuffled, cut and packed anew for each pass.

    Args:
        items: groups of this rank.
        positions: their places in the batch.
        cut: minibatches of a pass, by places of groups.
        pack: groups to rows.
    """

    def __init__(
        self,
        items: Sequence[GroupItem],
        positions: Sequence[int],
        cut: Callable[[int], list[list[int]]],
        pack: Callable[[list[GroupItem]], list[PackedRow]],
    ) -> None:
        self._items = dict(zip(positions, items, strict=True))
        self._cut = cut
        self._pack = pack
        self._columns: dict[int, dict[str, Float32Array]] = {}
        """By identity of a completion."""
        self._first = self._packed(0)
        super().__init__([[row.batch for row in part] for part in self._first])

    def rows(self, epoch: int) -> list[Rows]:
        """Rows of a pass by minibatch; this rank may have none in some."""
        if epoch == 0 or len(self._first) == 1:
            return super().rows(epoch)
        return [[row.batch for row in part] for part in self._packed(epoch)]

    def add_column(self, name: Column, values: Sequence[Sequence[Float32Array]]) -> None:
        """Give every token a number that all passes see; see `Minibatches`."""
        super().add_column(name, values)
        for part, columns in zip(self._first, values, strict=True):
            for row, value_N in zip(part, columns, strict=True):
                ends = np.cumsum([len(c.token_ids) for c in row.completions])
                pieces = np.split(value_N, ends[:-1])
                for completion, piece in zip(row.completions, pieces, strict=True):
                    self._columns.setdefault(id(completion), {})[name] = piece

    def _packed(self, epoch: int) -> list[list[PackedRow]]:
        return [
            self._pack([self._filled(self._items[p]) for p in part if p in self._items])
            for part in self._cut(epoch)
        ]

    def _filled(self, item: GroupItem) -> GroupItem:
        if not self._columns:
            return item
        completions = [c._replace(**self._columns[id(c)]) for c in item.completions]  # type: ignore[arg-type]
        return item._replace(completions=completions)
