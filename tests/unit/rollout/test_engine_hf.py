"""Sampling of the hf engine, against counting."""

from __future__ import annotations

import pytest
import torch

from olmrl.rollout.engine_hf import sample, spans
from olmrl.types import PolicyVersion, SamplingSpec, VersionSpan

PROBABILITIES = [0.5, 0.3, 0.15, 0.05, 0.0]


def draw(spec: SamplingSpec, number: int) -> torch.Tensor:
    """[number] ids of one row, drawn again and again; its order is not that of likelihood."""
    row = torch.tensor(PROBABILITIES)[[3, 4, 0, 2, 1]].log()
    generators = [torch.Generator().manual_seed(7)]
    return torch.cat([sample(row[None], spec, generators) for _ in range(number)])


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
    tokens = draw(SamplingSpec(1.0, top_p, 1), 4000)
    found = torch.bincount(tokens, minlength=5) / 4000
    # Five standard deviations of a binomial share.
    torch.testing.assert_close(found, torch.tensor(expected), atol=0.04, rtol=0.0)
    impossible = [k for k, p in enumerate(expected) if p == 0.0]
    assert not set(tokens.tolist()) & set(impossible)


def test_greedy_takes_the_likeliest() -> None:
    assert draw(SamplingSpec(1.0, 1.0, 1, greedy=True), 3).tolist() == [2, 2, 2]


def test_a_row_draws_the_same_beside_other_rows() -> None:
    spec = SamplingSpec(1.0, 0.9, 1)
    torch.manual_seed(0)
    rows = torch.randn(5, 50).log_softmax(-1)
    together = sample(rows, spec, [torch.Generator().manual_seed(k) for k in range(5)])
    alone = [int(sample(rows[k, None], spec, [torch.Generator().manual_seed(k)])) for k in range(5)]
    assert together.tolist() == alone


def test_spans_are_runs_of_equal_versions() -> None:
    a, b = PolicyVersion(1, 3), PolicyVersion(1, 4)
    assert spans([a, a, b, b, b]) == (VersionSpan(a, 0, 2), VersionSpan(b, 2, 5))
    assert spans([a]) == (VersionSpan(a, 0, 1),)
    assert spans([]) == ()
