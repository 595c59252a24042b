"""Which item of one list belongs to which of another: the assignment of greatest total gain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from olmrl.types import Float64Array


def best_assignment(gain_MN: Float64Array) -> list[tuple[int, int]]:
    """Pair rows with columns, each used at most once, for the greatest total gain.

    The Hungarian method with potentials (Kuhn 1955; Jonker and Volgenant 1987): one shortest
    augmenting path for each row, O(rows^2 columns).

    Args:
        gain_MN: what each pair is worth, >= 0; a pair worth nothing is never made.

    Returns:
        (row, column) pairs, by row.
    """
    if not gain_MN.size or not gain_MN.any():
        return []
    if gain_MN.shape[0] > gain_MN.shape[1]:
        return sorted((row, col) for col, row in best_assignment(gain_MN.T))
    column_of = _solve(-gain_MN)
    return [(row, col) for row, col in enumerate(column_of) if gain_MN[row, col] > 0]


def _solve(cost_MN: Float64Array) -> Sequence[int]:
    """Column of each row at the least total cost; no more rows than columns."""
    n_rows, n_cols = cost_MN.shape
    row_price = np.zeros(n_rows)
    col_price = np.zeros(n_cols + 1)
    row_at = np.full(n_cols + 1, -1)  # the last column is where each search starts
    for row in range(n_rows):
        row_at[n_cols] = row
        slack = np.full(n_cols, np.inf)
        came_from = np.full(n_cols, n_cols)
        done = np.zeros(n_cols + 1, bool)
        at = n_cols
        while row_at[at] >= 0:
            done[at] = True
            current = row_at[at]
            reduced = cost_MN[current] - row_price[current] - col_price[:-1]
            nearer = ~done[:-1] & (reduced < slack)
            slack[nearer] = reduced[nearer]
            came_from[nearer] = at
            following = int(np.argmin(np.where(done[:-1], np.inf, slack)))
            step = slack[following]
            row_price[row_at[done]] += step
            col_price[done] -= step
            slack[~done[:-1]] -= step
            at = following
        while at != n_cols:
            row_at[at] = row_at[came_from[at]]
            at = came_from[at]
    column_of = np.zeros(n_rows, int)
    for col in range(n_cols):
        if row_at[col] >= 0:
            column_of[row_at[col]] = col
    return [int(col) for col in column_of]
