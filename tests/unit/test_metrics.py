import json
import math

import pytest

from olmrl.metrics import JsonlSink, Last, Max, Mean, Sum, flatten, merge, read_rows


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


def test_a_continued_run_tells_no_step_twice(tmp_path):
    path = tmp_path / "metrics.jsonl"
    sink = JsonlSink(path)
    for step in (1, 2, 3):
        sink.write(step, {"x": float(step), "bad": math.nan})
    sink.close()
    with path.open("a") as stream:
        stream.write('{"step": 4, "x"')  # a kill in the middle of a line
    again = JsonlSink(path, continue_from=2)
    again.write(3, {"x": 30.0})
    again.close()
    rows = read_rows(path)
    assert [(r["step"], r["x"]) for r in rows] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert rows[0]["bad"] is None
    assert all(json.loads(line) for line in path.read_text().splitlines())
