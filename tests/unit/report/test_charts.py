import itertools
import math
import re

import pytest

from olmrl.report.charts import CHARTS, charts, nice_ticks, thinned


def test_a_long_run_keeps_its_spikes_and_its_end():
    steps = list(range(20_000))
    values = [0.0] * 20_000
    values[7_777], values[12_345], values[-1] = 9.0, -9.0, 0.5
    points = thinned(steps, values)
    assert len(points) <= 300 and points == sorted(points)
    assert {(7_777, 9.0), (12_345, -9.0), (19_999, 0.5)} <= set(points)
    assert thinned([2, 1, 3], [5.0, 4.0, math.nan]) == [(1, 4.0), (2, 5.0)]


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.448, 0.734), (-3e-4, 1e-4), (1, 1), (0, 0), (1e9, 3e9), (-5, -5)]
)
def test_ticks_are_round_and_hold_the_line(low, high):
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 7 and ticks[0] <= low + 1e-12 and ticks[-1] >= high - 1e-12
    assert all(b > a for a, b in itertools.pairwise(ticks))


def test_a_share_that_is_0_all_along_has_no_room_below():
    assert nice_ticks(0, 0)[0] == 0


def test_a_line_of_one_point_is_a_ring():
    (chart,) = charts("Training", {"a": {"reward/mean": ([1], [1.0])}})
    assert re.fullmatch(r"M[\d. ]+(a2\.5 2\.5 0 1 0 -?5 0 ?){2}", chart.lines[0].path)


def test_families_are_found_and_told_from_their_kin():
    columns = {
        name: ([1, 2], [0.5, 0.6])
        for name in ("reward/mean", "reward/bench/mean", "reward/bench/type/table", "eval/loss")
    }
    drawn = {c.title: [line.label for line in c.lines] for c in charts("Training", {"a": columns})}
    assert drawn == {
        "reward": ["reward/mean"],
        "rewards": ["reward/bench/mean"],
        "unit tests in training": ["reward/bench/type/table"],
    }


def test_two_runs_share_a_colour_and_differ_by_their_dashes():
    runs = {"a": {"reward/mean": ([1], [1.0])}, "b": {"reward/mean": ([1, 9], [2.0, 3.0])}}
    (chart,) = charts("Training", runs)
    assert [(n.label, n.colour, n.dash) for n in chart.lines] == [
        ("a: reward/mean", 0, 0), ("b: reward/mean", 0, 1),
    ]  # fmt: skip
    assert re.fullmatch(r"M[\d. L]+", chart.lines[1].path)
    assert chart.lines[1].last == "3"


def test_what_cannot_be_drawn_is_left_out():
    assert [charts(section, {"a": {}}) for section in CHARTS] == [[]] * len(CHARTS)
    (chart,) = charts("Training", {"a": {"reward/mean": ([1, 2], [math.inf, 1.0])}})
    assert chart.lines[0].xs == "2"
    charts("Training", {"a": {"reward/mean": ([1], [math.nan])}})
