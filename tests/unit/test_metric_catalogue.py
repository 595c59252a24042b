"""The catalogue of metrics names what the code writes, all of it and nothing else."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from olmrl.metric_catalogue import CATALOGUE, METRICS, find, unknown

PACKAGE = Path(__file__).parents[2] / "olmrl"
ROOMS = sorted({metric.name.split("/")[0] for metric in METRICS})
NO_METRICS = {"olmrl/metric_catalogue.py", "olmrl/rollout/gauges.py"}
"""The list itself, and the engines' own gauges, which go to Prometheus only."""


@cache
def spelled() -> tuple[frozenset[str], tuple[re.Pattern[str], ...]]:
    """Strings of the code, and shapes of its f-strings with any text for their values."""
    constants: set[str] = set()
    shapes: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        if str(path.relative_to(PACKAGE.parent)) in NO_METRICS:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                constants.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [
                    re.escape(str(v.value)) if isinstance(v, ast.Constant) else "(.+?)"
                    for v in node.values
                ]
                if re.search(r"[\w/]", "".join(parts).replace("(.+?)", "")) and len(parts) < 8:
                    shapes.add("".join(parts))
    return frozenset(constants), tuple(re.compile(shape) for shape in sorted(shapes))


def written(name: str, depth: int = 0) -> bool:
    """Whether the code spells a name: as it is, or by f-strings whose values it spells."""
    constants, shapes = spelled()
    if name in constants or re.fullmatch(r"<\w+>", name):
        return True
    return depth < 4 and any(
        all(written(value, depth + 1) for value in found.groups())
        for shape in shapes
        if (found := shape.fullmatch(name))
    )


@pytest.mark.parametrize("name", [metric.name for metric in METRICS])
def test_every_metric_is_written_by_the_code(name):
    assert written(name)


def test_a_metric_that_no_code_writes_is_noticed():
    assert not written("reward/meen")
    assert not written("time/brewing_coffee")
    assert not written("ledger/isued")
    assert not written("eval/<mode>/pass_rat")


def constants_that_are_metrics() -> list[str]:
    rooms = "|".join(ROOMS)
    return sorted(c for c in spelled()[0] if re.fullmatch(rf"(?:{rooms})(?:/[a-z_]+)+", c))


def test_every_metric_that_the_code_spells_out_is_in_the_catalogue():
    found = constants_that_are_metrics()
    assert len(found) > 80
    no_rows = {"eval/samples", "tokens/s", "data/quickstart", "reward/edit_distance"}
    assert unknown(set(found)) - no_rows == set(), "give it a line in olmrl/metric_catalogue.py"


def test_names_are_unique_and_every_line_says_something():
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    assert all(metric.unit and metric.meaning for metric in METRICS)
    assert {metric.runs for metric in METRICS} == {"grpo", "sft", "both"}
    assert sum(map(len, CATALOGUE.values())) == len(METRICS)


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("reward/mean", "reward/mean"),
        ("reward/teds/mean", "reward/<reward>/mean"),
        ("reward/bench/type/table", "reward/bench/type/<type>"),
        ("reward/bench/file/old/scans.jsonl", "reward/bench/file/<file>"),
        ("eval/greedy/category/a.jsonl", "eval/<mode>/category/<file>"),
        ("eval/loss", "eval/loss"),
        ("eval/held_out/loss", "eval/<set>/loss"),
        ("eval/held_out/type/order", "eval/<set>/type/<type>"),
        ("refill/zero_variance", "refill/<reason>"),
        ("data/dropped/FilterOutRotatedDocuments", "data/dropped/<step>"),
    ],
)
def test_a_name_in_a_row_has_its_entry(name, entry):
    found = find(name)
    assert found is not None
    assert found.name == entry


def test_names_that_no_run_writes_are_unknown():
    assert unknown({"step", "reward/mean", "reward/meen", "eval/samples", "x/y"}) == {
        "reward/meen",
        "eval/samples",
        "x/y",
    }
