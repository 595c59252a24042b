"""The README's table of differences and the tests that pin them stay in step."""

import json
import re
from pathlib import Path

import olmrl.bench

README = Path(olmrl.bench.__file__).parent / "README.md"
TESTS = Path(__file__).parents[1]
SLICE = Path(__file__).parent / "data" / "slice.jsonl"


def rows_of_table():
    lines = [line for line in README.read_text().splitlines() if line.startswith("|")]
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[2:]]


def test_every_difference_is_pinned():
    pins = [pin for row in rows_of_table() for pin in re.findall(r"`([^`]+)`", row[-1])]
    assert all("`" in row[-1] for row in rows_of_table())
    sources = "".join(path.read_text() for path in TESTS.glob("*/test_*.py"))
    slice_rows = [json.loads(line) for line in SLICE.read_text().splitlines()]
    differing = {row["why"] for row in slice_rows if row["compat"] != row["default"]}
    named = {pin for pin in pins if not pin.startswith("test_")}
    assert named == differing
    for pin in set(pins) - named:
        assert f"def {pin}(" in sources, pin
