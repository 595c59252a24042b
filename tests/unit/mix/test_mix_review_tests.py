"""mix review-tests: a person judges the tests of a bench folder, and the verdicts count."""

import json

import pytest
from mix_support import make_pdf, tree
from sheet_browser import launched, opened, saved_marks

from olmrl.bench import load_folder
from olmrl.bench.folder import untested_pages
from olmrl.data.page import scan_bench
from olmrl.mix.sheet import mark_id

TEST = {"type": "present", "pdf": "sub/a.pdf", "page": 1, "id": "1", "text": "alpha"}


@pytest.fixture
def bench(tmp_path):
    """Three pages; lines with a BOM, CRLF, blanks and spaces of their own; one verdict."""
    root = tmp_path / "bench"
    make_pdf(root / "pdfs/sub/a.pdf", ["alpha beta", "second"])
    make_pdf(root / "pdfs/pages/b-p1.pdf", ["gamma"])
    (root / "claude_original/sub").mkdir(parents=True)
    (root / "claude_original/sub/a_page1_pg1_repeat1.md").write_text("<script>alert(1)</script>")
    rows = [
        TEST,
        {**TEST, "id": "2", "text": "</li><script>alert(2)</script>", "max_diffs": 2},
        {**TEST, "id": "3", "page": 2, "text": "second", "checked": "verified"},
    ]
    lines = "\ufeff" + "\r\n\r\n".join(json.dumps(row, separators=(" ,", " :")) for row in rows)
    (root / "present.jsonl").write_text(lines)
    more = {**TEST, "type": "absent", "pdf": "pages/b-p1.pdf", "text": "delta", "checked": None}
    (root / "absent.jsonl").write_text(json.dumps(more) + "\n")
    return root


@pytest.fixture
def marked(tmp_path):
    def write(*marks):
        path = tmp_path / "marks.jsonl"
        rows = ({"id": name, "verdict": verdict} for name, verdict in marks)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def checked(bench):
    rows = {}
    for page in scan_bench(str(bench), with_rejected=True):
        for file, row in zip(page.test_files, page.tests, strict=True):
            rows[mark_id(file, row["id"])] = row.get("checked")
    return rows


def test_from_the_browser_into_the_tests(tmp_path, mix, bench):
    assert mix("review-tests", bench, tmp_path / "out") == 0
    with launched() as browser, opened(browser, tmp_path / "out/index.html") as page:
        units = page.locator(".unit")
        assert units.count() == 4 and "</li><script>" in units.nth(2).inner_text()
        assert page.locator("article h2").all_inner_texts() == [
            "pages/b-p1.pdf::1", "sub/a.pdf::1", "sub/a.pdf::2",
        ]  # fmt: skip
        assert page.inner_text("#count") == "1 accepted, 0 rejected, 4 in all"
        for key in ("a", "r", "a", "u"):
            page.keyboard.press(key)
        marks = saved_marks(page)
    (tmp_path / "marks.jsonl").write_text("".join(json.dumps(mark) + "\n" for mark in marks))
    before = (bench / "present.jsonl").read_bytes().split(b"\n")
    assert mix("review-tests", bench, "--marks", tmp_path / "marks.jsonl") == 0
    assert checked(bench) == {
        "absent.jsonl:1": "verified",
        "present.jsonl:1": "rejected",
        "present.jsonl:2": "verified",
        "present.jsonl:3": None,
    }
    after = (bench / "present.jsonl").read_bytes().split(b"\n")
    assert [line.endswith(b"\r") for line in after] == [line.endswith(b"\r") for line in before]
    assert json.loads(after[2]) == {**json.loads(before[2]), "checked": "verified"}
    again = tree(bench)
    assert mix("review-tests", bench, "--marks", tmp_path / "marks.jsonl") == 0
    assert tree(bench) == again


def test_only_lines_with_a_new_verdict_change(mix, bench, marked):
    before = (bench / "present.jsonl").read_bytes().split(b"\n")
    marks = marked(("present.jsonl:3", "good"), ("present.jsonl:2", "bad"))
    assert mix("review-tests", bench, "--marks", marks) == 0
    after = (bench / "present.jsonl").read_bytes().split(b"\n")
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, True, False, True, True]


def test_a_mark_on_a_page_goes_to_its_tests_that_have_none(mix, bench, marked):
    marks = marked(("present.jsonl:1", "good"), ("sub/a", "bad"), ("b-p1", "bad"))
    assert mix("review-tests", bench, "--marks", marks) == 0
    assert checked(bench) == {
        "absent.jsonl:1": "rejected",
        "present.jsonl:1": "verified",
        "present.jsonl:2": "rejected",
        "present.jsonl:3": "rejected",
    }


def test_rejected_tests_do_not_count(mix, bench, marked):
    marks = marked(("absent.jsonl:1", "bad"), ("present.jsonl:1", "bad"))
    assert mix("review-tests", bench, "--marks", marks) == 0
    pages = {page.page_id: [t["id"] for t in page.tests] for page in scan_bench(str(bench))}
    assert pages == {"sub/a.pdf::1": ["2"], "sub/a.pdf::2": ["3"]}
    folder = load_folder(bench)
    assert [case.id for case in folder.cases] == ["2", "3"]
    assert [why.rpartition(": ")[2] for why in folder.rejected] == [
        "test '1' was rejected by a person"
    ] * 2
    assert untested_pages(folder, baselines=False) == []  # judged, not forgotten
    assert len(load_folder(bench, compat=True).cases) == 4
    assert mix("review-tests", bench, "--marks", marked(("sub/a", "bad"))) == 0
    with pytest.raises(ValueError, match="only tests that a person rejected"):
        scan_bench(str(bench))


def test_only_unchecked_tests_and_sampled_pages_are_shown(tmp_path, mix, bench, marked, capsys):
    assert mix("review-tests", bench, tmp_path / "u", "--unchecked", "--sample", 1) == 0
    assert "1 of 3 pages" in capsys.readouterr().err
    page = (tmp_path / "u/index.html").read_text()
    assert "a.pdf::2" not in page and page.count("<article") == 1
    everything = marked(("sub/a", "good"), ("b-p1", "bad"))
    assert mix("review-tests", bench, "--marks", everything) == 0
    assert "3 tests verified, 1 rejected (25.0%; 95 %: 4.6% to 69.9%)" in capsys.readouterr().err
    assert mix("review-tests", bench, tmp_path / "v", "--unchecked") == 2
    assert "every test has a verdict" in capsys.readouterr().err


def test_a_page_that_cannot_be_drawn_is_shown_with_its_reason(tmp_path, mix, bench):
    (bench / "pdfs/pages/b-p1.pdf").write_bytes(b"%PDF damaged")
    (bench / "claude_original/sub/a_page1_pg1_repeat1.md").write_bytes(b"\xff")
    assert mix("review-tests", bench, tmp_path / "out") == 0
    page = (tmp_path / "out/index.html").read_text()
    assert "not a PDF" in page and "reference unusable" in page


@pytest.mark.parametrize(
    ("marks", "said"),
    [
        ('{"id": "present.jsonl:1", "verdict": "bad"}\n{"id": "x", "verdict": "good"}\n{"id": "y", '
         '"verdict": "good"}\n', "has no test or page 'x' and 1 more"),
        ('{"id": "present.jsonl:1", "verdict": "bad"}\n\n{"id"\n', "line 3: not valid JSON"),
        ('{"id": "present.jsonl:1", "verdict": "fine"}\n', "line 1: verdict is 'fine', must be"),
        (None, "marks.jsonl"),
    ],
)  # fmt: skip
def test_bad_marks_change_nothing_and_are_said_in_a_sentence(
    tmp_path, mix, bench, capsys, marks, said
):
    before = tree(bench)
    if marks is not None:
        (tmp_path / "marks.jsonl").write_text(marks)
    assert mix("review-tests", bench, "--marks", tmp_path / "marks.jsonl") == 2
    error = capsys.readouterr().err
    assert said in error and error.strip().count("\n") == 0
    assert tree(bench) == before


def test_what_cannot_be_reviewed_is_said(tmp_path, mix, bench, capsys):
    for words, said in (
        ((bench,), "give OUTPUT for the page, or --marks"),
        ((bench, bench), "needs a folder of its own"),
        ((bench, "s3://bucket/x"), "needs a local folder"),
        ((tmp_path / "gone", tmp_path / "o"), "not a bench folder"),
        ((bench, tmp_path / "o", "--files", "math"), "no JSONL file matches 'math'"),
    ):
        assert mix("review-tests", *words) == 2
        error = capsys.readouterr().err
        assert said in error and error.strip().count("\n") == 0
    assert mix("review", bench, tmp_path / "o") == 2
    assert "`mix review-tests`" in capsys.readouterr().err
    (bench / "absent.jsonl").write_text("\n{}\n")
    assert mix("review-tests", bench, tmp_path / "o") == 2
    assert "absent.jsonl, line 2: 'pdf' is None" in capsys.readouterr().err
