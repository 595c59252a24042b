import math

import pytest

from olmrl.metrics import Last, Max, Mean, Sum, flatten, merge, read_rows
from olmrl.run.sinks import JsonlSink


def test_means_merge_by_weight():
    merged = merge({"a": Mean.of([1.0, 2.0])}, {"a": Mean.of([6.0])})
    assert flatten(merged) == {"a": 3.0}


def test_each_reduction_keeps_its_meaning():
    merged = merge(
        {"s": Sum(1), "m": Max(5), "l": Last(1)}, {"s": Sum(2), "m": Max(3), "l": Last(9)}
    )
    assert flatten(merged) == {"l": 9, "m": 5, "s": 3}


def test_one_name_cannot_be_reduced_in_two_ways():
    with pytest.raises(ValueError, match="metric a"):
        merge({"a": Sum(1)}, {"a": Max(1)})


def test_an_empty_mean_is_nan():
    assert math.isnan(Mean.of([]).value())


def test_rows_survive_numbers_that_json_cannot_carry(tmp_path):
    sink = JsonlSink(tmp_path / "metrics.jsonl")
    sink.write(1, {"x": 1.0, "bad": math.nan})
    assert read_rows(tmp_path / "metrics.jsonl") == [{"step": 1, "x": 1.0, "bad": None}]
