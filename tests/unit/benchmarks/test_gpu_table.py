"""README's table of what was run is the one that result files give."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "benchmarks" / "gpu"))
import table  # noqa: E402

RUN = {
    "device": "cuda",
    "card": "NVIDIA H100 80GB HBM3",
    "date": "2026-12-01",
    "stages": {
        "a": {
            "status": "failed",
            "rows": [
                {"case": "sdpa, one segment, 128, bfloat16", "ok": True},
                {"case": "flex, one segment, 128, bfloat16", "ok": False},
            ],
        }
    },
}


def row_of(text, title):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {title} |")]
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_readme_has_the_table_that_result_files_give():
    assert table.main(["--check"]) == 0


def test_its_tests_exist():
    named = {test for way in table.WAYS for test in way.tests}
    assert [test for test in sorted(named) if not (ROOT / test).is_file()] == []


def test_every_family_has_a_row():
    from olmrl.models.registry import FAMILIES

    assert table.FAMILIES.keys() == FAMILIES.keys()


def test_two_runs_of_a_day_are_named_once():
    assert table.table([RUN, RUN]).count("on 2026-12-01") == 1


def test_without_results_nothing_was_run_on_a_gpu():
    text = table.table([])
    assert "No GPU has run any of it yet." in text
    assert {row_of(text, way.title)[2] for way in table.WAYS} == {"not run"}
    assert row_of(text, "weights by NCCL into vLLM")[1:] == ["none", "not run", "yes"]


def test_a_case_that_went_well_on_a_card_is_named_with_its_date():
    text = table.table([RUN])
    assert row_of(text, "attention by SDPA")[2] == "NVIDIA H100 80GB HBM3, 2026-12-01"
    assert row_of(text, "attention by FlexAttention")[2] == "not run"
    assert "GPUs that ran the kit: NVIDIA H100 80GB HBM3 on 2026-12-01." in text


def test_rehearsals_do_not_count(tmp_path):
    for name, device in (("gpu_b", "cuda"), ("gpu_a", "cpu")):
        (tmp_path / f"{name}.json").write_text(json.dumps(RUN | {"device": device}))
    assert len(table.results(tmp_path)) == 1


def test_a_readme_without_a_place_for_it_is_refused():
    with pytest.raises(ValueError, match="must stand around the table"):
        table.replaced("# olmrl\n", "| a |")
