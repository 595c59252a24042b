"""Drawing tokens, against counting and against the published constants of SplitMix64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from olmrl.rollout.sampling import draw, uniforms

PROBABILITIES = [0.5, 0.3, 0.15, 0.05, 0.0]


def draws(top_p: float, number: int) -> torch.Tensor:
    """[number] ids of one row, drawn again and again; its order is not that of likelihood."""
    row = torch.tensor(PROBABILITIES)[[3, 4, 0, 2, 1]].log()
    numbers = torch.from_numpy(uniforms([7] * number, range(number)))
    nucleus = None if top_p == 1.0 else torch.full((number,), top_p)
    return draw(row.expand(number, -1), numbers, nucleus)


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (1.0, [0.05, 0.0, 0.5, 0.15, 0.3]),
        (0.79, [0.0, 0.0, 0.625, 0.0, 0.375]),
        (0.81, [0.0, 0.0, 0.5 / 0.95, 0.15 / 0.95, 0.3 / 0.95]),
        (0.1, [0.0, 0.0, 1.0, 0.0, 0.0]),
    ],
)
def test_frequencies_are_those_of_the_nucleus(top_p: float, expected: list[float]) -> None:
    tokens = draws(top_p, 4000)
    found = torch.bincount(tokens, minlength=5) / 4000
    # Five standard deviations of a binomial share.
    torch.testing.assert_close(found, torch.tensor(expected), atol=0.04, rtol=0.0)
    impossible = [k for k, p in enumerate(expected) if p == 0.0]
    assert not set(tokens.tolist()) & set(impossible)


def test_a_row_draws_the_same_beside_other_rows() -> None:
    torch.manual_seed(0)
    rows = torch.randn(100, 50).log_softmax(-1)
    numbers = torch.from_numpy(uniforms(range(100), [3] * 100))
    nucleus = torch.full((100,), 0.9)
    together = draw(rows, numbers, nucleus)
    alone = [int(draw(rows[k, None], numbers[k, None], nucleus[k, None])) for k in range(100)]
    assert together.tolist() == alone


@pytest.mark.parametrize("number", [0.0, 1.0 - 2.0**-53])
@pytest.mark.parametrize("top_p", [None, 0.9])
def test_banned_ids_are_never_drawn_at_the_ends(number: float, top_p: float | None) -> None:
    row = torch.tensor([[-np.inf, 0.1, 0.3, -np.inf, 0.2, -np.inf]]).log_softmax(-1)
    nucleus = None if top_p is None else torch.tensor([top_p])
    token = draw(row, torch.tensor([number], dtype=torch.float64), nucleus)
    assert int(token) in (1, 2, 4)


def test_numbers_are_uniform_and_independent_over_seeds_and_positions() -> None:
    seeds, positions = np.divmod(np.arange(40_000), 200)
    table = uniforms(seeds.tolist(), positions.tolist()).reshape(200, 200)
    assert table.min() >= 0.0 and table.max() < 1.0
    counts = np.histogram(table, bins=20, range=(0, 1))[0]
    # chi-square with 19 degrees of freedom: 43.8 is its 0.999 quantile
    assert ((counts - 2000) ** 2 / 2000).sum() < 43.8
    for one, other in ((table[:, :-1], table[:, 1:]), (table[:-1], table[1:])):
        # five standard deviations of a correlation of 39,800 pairs
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.025


def test_numbers_follow_from_seed_and_position_alone() -> None:
    many = uniforms([5, 6, 5], [0, 0, 9])
    assert many[2] == uniforms([5], [9])[0] != many[0]
    assert uniforms([-1], [0]) == uniforms([2**64 - 1], [0])


def test_the_mixing_function_is_splitmix64() -> None:
    """The first two words of the published stream of seed 0, which mixes to itself."""
    assert uniforms([0], [0])[0] == (0xE220A8397B1DCDAF >> 11) * 2.0**-53
    assert uniforms([0], [1])[0] == (0x6E789E6AA1B965F4 >> 11) * 2.0**-53
