"""The tables of docs/algorithm.md, computed again."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

TEXT = (Path(__file__).parents[2] / "docs/algorithm.md").read_text("utf-8")
DRAWS = 400_000


def table(heading):
    """Numbers of the table below a heading."""
    part = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in part.splitlines() if re.match(r"\| \d", line)]
    return [[float(cell) for cell in row] for row in rows]


def ratios(deviation):
    draws = np.random.default_rng(0).normal(-(deviation**2) / 2, deviation, DRAWS)
    return np.exp(draws)


@pytest.mark.parametrize("row", table("The correction of the mismatch"), ids=str)
def test_mismatch(row):
    gap, length, deviation, spread, share, one_sided, two_sided = row
    exact = gap * math.sqrt(math.pi / 2 * length)
    assert deviation == pytest.approx(exact, abs=0.006)
    assert spread == pytest.approx(math.sqrt(exact**2 + exact**4 / 4), abs=0.006)
    weight = ratios(exact)
    assert one_sided == pytest.approx(np.mean(weight <= 3), abs=0.006)
    kept = np.where((weight <= 3) & (weight >= 1 / 3), weight, 0.0)
    assert two_sided == pytest.approx(np.mean(kept > 0), abs=0.006)
    assert share == pytest.approx(kept.sum() ** 2 / (DRAWS * (kept**2).sum()), abs=0.006)


@pytest.mark.parametrize("row", table("CISPO's cap"), ids=str)
def test_cispo(row):
    found = [np.mean(ratios(row[0]) > cap) for cap in (1.2, 1.28, 2, 5)]
    assert row[1:] == pytest.approx(found, abs=0.002)


@pytest.mark.parametrize("row", table("Oversampling favours short completions"), ids=str)
def test_oversample(row):
    draws = np.random.default_rng(0)
    for shown, extra in zip(row[1:], (2, 4, 8), strict=True):
        lengths = np.sort(draws.lognormal(0, row[0], (20_000, 28 + extra)), axis=1)
        assert shown == pytest.approx(lengths[:, :28].mean() / lengths.mean(), abs=0.006)
