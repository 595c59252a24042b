"""Verdicts: a hand-made slice in both modes, and the public implementation's own verdicts."""

import gzip
import json
from pathlib import Path

import pytest

from olmrl.bench import CaseError, ParsedPage, load_case

SLICE = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "slice.jsonl").read_text().splitlines()
]
ORACLE = Path(__file__).parents[4] / "shared" / "oracle"
needs_oracle = pytest.mark.skipif(not ORACLE.is_dir(), reason=f"{ORACLE} is not there")


def oracle(name):
    with gzip.open(ORACLE / name, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.parametrize("row", SLICE, ids=[f"{r['test']['type']}: {r['why']}" for r in SLICE])
@pytest.mark.parametrize("mode", ["compat", "default"])
def test_hand_made(row, mode):
    verdict = load_case(row["test"], compat=mode == "compat").run(row["md"])
    assert verdict.passed is row[mode]
    assert bool(verdict.explanation) is not verdict.passed


@needs_oracle
@pytest.mark.parametrize(
    "kind",
    ["present", "absent", "order", "format", "table", "footnote", "baseline", "math"],
)
def test_compat_agrees_with_the_public_implementation(kind):
    pages = {}
    wrong = []
    rows = [row for row in oracle("verdicts.jsonl.gz") if row["test"]["type"] == kind]
    assert rows
    for row in rows:
        page = pages.setdefault(row["md"], ParsedPage(row["md"], compat=True))
        verdict = load_case(row["test"], compat=True).run_parsed(page)
        if verdict.passed != row["verdict"]:
            wrong.append((row["test"], row["md"][:200], verdict))
    assert wrong == []


@needs_oracle
@pytest.mark.parametrize("compat", [False, True])
def test_invalid_tests_are_refused(compat):
    for row in oracle("invalid_tests.jsonl.gz"):
        with pytest.raises(CaseError):
            load_case(row["test"], compat=compat)
