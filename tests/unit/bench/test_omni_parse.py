"""Tests of Omni Parse Bench become tests of a bench folder, or are counted as left out."""

import json

import pytest

from olmrl.bench import load_case
from olmrl.bench.__main__ import main
from olmrl.bench.omni_parse import NoCounterpart, convert
from olmrl.data.page import scan_bench

PAGE = (
    "Salt rose by 12%.\n\nThen wheat fell.\n\n\\(a^2+b\\)\n\n| | 1812 |\n|---|---|\n| rye | 4.2 |\n"
)


def test_of(kind, name="t", **arguments):
    return {
        "id": name,
        "test_type": kind,
        "output_type": "html",
        "derivation": "text_layer",
        "tags": ["Latn"],
        "args": arguments,
        "settings": {},
    }


test_of.__test__ = False


def text(said, max_diffs=0):
    return {"text": said, "max_diffs": max_diffs}


@pytest.mark.parametrize(
    ("test", "kind", "passes"),
    [
        (test_of("present", content=text("salt rose by 13%", 1)), "present", True),
        (test_of("present", content=text("salt fell")), "present", False),
        (test_of("present", content={"latex": "b + a^2"}), "math", False),
        (test_of("present", content={"latex": "a^{2} + b"}), "math", True),
        (test_of("order", before=text("Salt"), after=text("wheat")), "order", True),
        (test_of("order", before=text("wheat"), after=text("Salt")), "order", False),
        (
            test_of("table_cell", cell=text("4.2"), top_heading=text("1812"), left=text("rye")),
            "table",
            True,
        ),
        (test_of("table_cell", cell=text("4.2"), top_heading=text("1813")), "table", False),
    ],
)
def test_a_test_with_a_counterpart_judges_alike(test, kind, passes):
    row = convert(test, "doc-p1")
    assert (row["type"], row["pdf"], row["page"], row["id"]) == (kind, "doc-p1.pdf", 1, "t")
    assert load_case(row).run(PAGE).passed is passes


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        (test_of("present", content={"number": "1,240"}), "a number"),
        (test_of("repeat", content=text("Yes")), "test type repeat"),
        (test_of("layout_kind", content=text("Yes")), "test type layout_kind"),
        (test_of("table_cell", cell=text("4"), headings=[text("a")]), "a cell with headings"),
        (test_of("order", before=text("ab", 2), after=text("cd", 2)), "fails a condition"),
        (test_of("present", content={"latex": r"\nosuch{"}), "fails a condition"),
    ],
)
def test_others_say_why_they_are_left_out(test, reason):
    with pytest.raises(NoCounterpart, match=reason):
        convert(test, "p")


def dataset(folder, **gold):
    (folder / "gold").mkdir()
    (folder / "pages").mkdir()
    for page, tests in gold.items():
        (folder / "gold" / f"{page}.json").write_text(json.dumps(tests))
        (folder / "pages" / f"{page}.pdf").write_bytes(b"%PDF-1.4")
    return folder


def test_a_data_set_becomes_a_bench_folder(tmp_path, capsys):
    tests = [
        test_of("present", "a", content=text("Salt")),
        test_of("order", "b", before=text("Salt"), after=text("wheat")),
        test_of("repeat", "c", content=text("Salt")),
    ]
    (tmp_path / "in").mkdir()
    made = dataset(tmp_path / "in", p1={"tests": tests}, p2={"tests": tests[2:]})
    (made / "gold" / "p3.json").write_text(json.dumps({"tests": tests}))  # a page image
    assert main(["import-omni", str(made), str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2 tests on 1 pages",
        "  omni_order.jsonl: 1",
        "  omni_text.jsonl: 1",
        "5 tests left out",
        "  a page that is not a PDF: 3",
        "  test type repeat: 2",
    ]
    [page] = scan_bench(str(tmp_path / "out"))
    assert [row["id"] for row in page.tests] == ["b", "a"]
    assert main(["import-omni", str(made), str(tmp_path / "out")]) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("gold", "problem"),
    [
        ({}, "no gold/*.json"),
        ({"p1": []}, "p1.json: must be a JSON object with a list of tests"),
        ({"p1": {"tests": [{"id": "x"}]}}, "p1.json: p1: a test without a usable field"),
    ],
)
def test_anything_else_is_refused(gold, problem, tmp_path, capsys):
    made = dataset(tmp_path, **gold)
    assert main(["import-omni", str(made), str(tmp_path / "out")]) == 2
    assert problem in capsys.readouterr().err
