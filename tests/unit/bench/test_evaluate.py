"""Scoring candidates: category mean, repeats, missing pages, intervals, comparison, the CLI."""

import itertools
import json

import numpy as np
import pypdfium2
import pytest

from olmrl.bench import CaseError, load_folder
from olmrl.bench.__main__ import main
from olmrl.bench.evaluate import TestResult as Result
from olmrl.bench.evaluate import compare, evaluate, find_outputs, summarize
from olmrl.bench.statistics import bootstrap, holm, paired_bootstrap, permutation_p_value

HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
    "is_table: False\nis_diagram: False\n---\n"
)


@pytest.fixture
def bench(tmp_path):
    """Two PDFs, three pages with tests, and two candidates."""
    for pdf, pages in (("a.pdf", 2), ("sub/b.pdf", 1)):
        path = tmp_path / "pdfs" / pdf
        path.parent.mkdir(parents=True, exist_ok=True)
        document = pypdfium2.PdfDocument.new()
        for _ in range(pages):
            document.new_page(100, 140)
        document.save(str(path))
    present = {"type": "present", "pdf": "a.pdf", "page": 1}
    rows = {
        "one.jsonl": [
            {**present, "id": "p1", "text": "alpha"},
            {**present, "id": "p2", "text": "beta", "page": 2},
        ],
        "two.jsonl": [
            {**present, "id": "p1", "text": "gamma <script>"},
            {"type": "baseline", "pdf": "sub/b.pdf", "page": 1, "id": "own"},
            {"type": "absent", "pdf": "sub/b.pdf", "page": 1, "id": "n", "text": "footer"},
        ],
    }
    for name, tests in rows.items():
        (tmp_path / name).write_text("".join(json.dumps(test) + "\n" for test in tests))
    write(tmp_path, "good", "a_pg1_repeat1.md", HEAD + "alpha and gamma <script>")
    write(tmp_path, "good", "a_pg2_repeat1.md", "beta")
    write(tmp_path, "good", "sub/b_pg1_repeat1.md", "body text")
    write(tmp_path, "poor", "a_pg1_repeat1.md", "alpha only <script>alert(1)</script>")
    write(tmp_path, "poor", "a_pg1_repeat2.md", "nothing")
    write(tmp_path, "poor", "a_pg1_repeat10.md", "alpha")
    write(tmp_path, "poor", "a_pg2_repeat1.md", "delta")
    write(tmp_path, "poor", "sub/b_pg1_repeat1.md", "a footer")
    return tmp_path


def write(folder, candidate, name, text):
    path = folder / candidate / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("compat", [False, True])
def test_a_perfect_candidate(bench, compat):
    result = evaluate(load_folder(bench, compat=compat), "good", compat=compat)
    assert result.score == 1.0
    assert {n: (c.passed, c.total) for n, c in result.categories.items()} == {
        "baseline": (1, 1),
        "one.jsonl": (2, 2),
        "two.jsonl": (3, 3),
    }
    assert result.errors == ()
    assert result.types == {"absent": 1.0, "baseline": 1.0, "present": 1.0}


def test_scores_are_means_of_categories_and_repeats_vote(bench):
    result = evaluate(load_folder(bench), "poor")
    by_key = {(t.category, t.id): t for t in result.tests}
    assert by_key["one.jsonl", "p1"].score == pytest.approx(2 / 3)
    assert by_key["one.jsonl", "p1"].passed
    assert by_key["baseline", "a.pdf_baseline"].score == 1.0
    assert not by_key["two.jsonl", "n"].passed
    # one.jsonl 1/2, two.jsonl 1/3 (own passes), baseline 1/1
    assert result.score == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)
    assert result.types["present"] == pytest.approx((2 / 3 + 0 + 0) / 3)


def test_no_baselines_on_request(bench):
    result = evaluate(load_folder(bench), "good", add_baselines=False)
    assert set(result.categories) == {"one.jsonl", "two.jsonl"}


def test_missing_and_unreadable_outputs_fail_their_tests(bench):
    (bench / "good" / "sub" / "b_pg1_repeat1.md").unlink()
    (bench / "good" / "a_pg2_repeat1.md").write_bytes(b"beta \xff")
    result = evaluate(load_folder(bench), "good")
    assert len(result.errors) == 2
    assert "no output for sub/b.pdf page 1 (b_pg1_repeat1.md)" in result.errors[1]
    failed = {t.id for t in result.tests if not t.passed}
    assert failed == {"p2", "own", "n"}


def test_a_candidate_is_judged_as_each_test_judges_its_text(bench):
    """A second head is text in both places."""
    text = HEAD + HEAD.replace("en", "alpha") + "body"
    write(bench, "twice", "a_pg1_repeat1.md", text)
    folder = load_folder(bench)
    verdicts = {
        t.id: t.passed for t in evaluate(folder, "twice").tests if t.category == "one.jsonl"
    }
    (case,) = [case for case in folder.cases if getattr(case, "text", "") == "alpha"]
    assert verdicts["p1"] and case.run(text).passed


def test_unknown_candidate(bench):
    with pytest.raises(CaseError, match=r"goood.*'good', 'poor'"):
        evaluate(load_folder(bench), "goood")
    with pytest.raises(CaseError):
        evaluate(load_folder(bench), "pdfs")


def test_outputs_of_another_page_are_not_taken(tmp_path):
    for name in ("x_pg2_pg1_repeat1.md", "x_pg2_repeat1.md", "x_pg21_repeat1.md", "x_pg2_repeat1"):
        (tmp_path / name).write_text("")
    assert [p.name for p in find_outputs(tmp_path, "x.pdf", 2)] == ["x_pg2_repeat1.md"]
    assert [p.name for p in find_outputs(tmp_path, "x_pg2.pdf", 1)] == ["x_pg2_pg1_repeat1.md"]
    assert find_outputs(tmp_path, "no/x.pdf", 1) == []


def test_bootstrap_is_seeded_and_brackets_the_score():
    passed = {"a": [True] * 60 + [False] * 40, "b": [True] * 10}
    overall, each = bootstrap(passed, samples=2000, confidence=0.95, seed=1)
    assert bootstrap(passed, samples=2000, confidence=0.95, seed=1) == (overall, each)
    assert bootstrap(passed, samples=2000, confidence=0.95, seed=2) != (overall, each)
    # Normal approximation: 0.6 +- 1.96 * sqrt(0.6 * 0.4 / 100)
    assert each["a"].low == pytest.approx(0.504, abs=0.02)
    assert each["a"].high == pytest.approx(0.696, abs=0.02)
    assert each["b"] == (1.0, 1.0)
    assert overall.low == pytest.approx((each["a"].low + 1) / 2, abs=0.01)


def exact_p_value(differences):
    flat = [(d, len(ds)) for ds in differences.values() for d in ds]

    def statistic(signs):
        return abs(sum(s * d / n for s, (d, n) in zip(signs, flat, strict=True)))

    observed = statistic([1] * len(flat))
    every = [statistic(signs) for signs in itertools.product((-1, 1), repeat=len(flat))]
    return sum(value >= observed - 1e-12 for value in every) / len(every)


@pytest.mark.parametrize(
    "differences",
    [
        {"a": [1, 1, 1, 1, 1, 0], "b": [1, -1]},
        {"a": [1, -1, 0], "b": [0, 0, 1, 1]},
        {"a": [0, 0]},
    ],
)
def test_p_value_agrees_with_all_permutations(differences):
    estimate = permutation_p_value(differences, permutations=20_000, seed=0)
    assert estimate == pytest.approx(exact_p_value(differences), abs=0.015)


def test_intervals_of_differences_are_those_of_drawing_tests_one_by_one():
    differences = {"a": [1] * 9 + [-1] * 4 + [0] * 27, "b": [1, 0, 0, -1, 1], "c": [0] * 3}
    overall, each = paired_bootstrap(differences, samples=20_000, confidence=0.9, seed=3)
    rng = np.random.default_rng(9)
    means = {
        name: rng.choice(values, (20_000, len(values))).mean(axis=1)
        for name, values in differences.items()
    }
    for name, drawn in means.items():
        assert each[name] == pytest.approx(np.quantile(drawn, [0.05, 0.95]), abs=0.026), name
    total = np.mean(list(means.values()), axis=0)
    assert overall == pytest.approx(np.quantile(total, [0.05, 0.95]), abs=0.01)
    assert each["c"] == (0.0, 0.0)
    again = paired_bootstrap(differences, samples=20_000, confidence=0.9, seed=3)
    assert again == (overall, each)


def test_p_values_of_several_comparisons_are_adjusted():
    # worked example of Holm's method: 4 * .005, 3 * .01, 2 * .03, and .04 raised to the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1.0, 1.0] and holm([0.2]) == [0.2] and holm([]) == []


def result_of(name, passed):
    tests = [Result(str(i), "present", "a", "x.pdf", 1, float(p), "") for i, p in enumerate(passed)]
    return summarize(name, tests)


def test_compare():
    first = result_of("first", [True] * 30 + [False] * 10)
    second = result_of("second", [True] * 10 + [False] * 29 + [True])
    comparison = compare(first, second)
    assert comparison.difference == pytest.approx(19 / 40)
    assert comparison.p_value < 0.01
    assert len(comparison.only_first) == 20
    assert comparison.only_second == ("a:39",)
    # Normal approximation of a paired difference: 1.96 * sqrt((21 / 40 - (19 / 40)^2) / 40)
    assert comparison.interval == pytest.approx((0.475 - 0.170, 0.475 + 0.170), abs=0.03)
    assert comparison.intervals == {"a": comparison.interval}
    same = compare(first, first)
    assert (same.p_value, same.interval) == (1.0, (0.0, 0.0))
    with pytest.raises(CaseError, match="different tests"):
        compare(first, result_of("short", [True]))


def test_command_line(bench, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["score", str(bench), "--candidate", "poor"]
    code = main([*arguments, "--json", str(out / "r.json"), "--html", str(out / "r.html")])
    assert code == 0
    assert "mean of categories" in capsys.readouterr().out
    saved = json.loads((out / "r.json").read_text())
    assert saved["categories"]["one.jsonl"]["score"] == 0.5
    assert saved["tests"][0]["explanation"] is not None
    page = (out / "r.html").read_text()
    assert "data:image/webp;base64," in page
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "gamma" in page


def test_command_line_compares(bench, tmp_path, capsys):
    file = tmp_path / "c.json"
    assert main(["compare", str(bench), "--candidate", "good", "--against", "poor",
                 "--json", str(file)]) == 0  # fmt: skip
    assert "permutation" in capsys.readouterr().out
    assert json.loads(file.read_text())["difference"] > 0


def test_command_line_errors(bench, capsys):
    assert main(["score", str(bench), "--candidate", "nobody"]) == 2
    assert "nobody" in capsys.readouterr().err
    assert main(["score", str(bench), "--candidate", "good", "--confidence", "2"]) == 2
    (bench / "good" / "a_pg1_repeat1.md").unlink()
    assert main(["score", str(bench), "--candidate", "good"]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_a_page_without_a_test_is_not_passed_over_in_silence(bench, capsys):
    document = pypdfium2.PdfDocument.new()
    for _ in range(3):
        document.new_page(100, 140)
    document.save(str(bench / "pdfs" / "more.pdf"))
    (bench / "pdfs" / "broken.pdf").write_bytes(b"rubbish")
    assert main(["score", str(bench), "--candidate", "good"]) == 2
    said = capsys.readouterr().err
    assert "4 pages have no test" in said and "broken.pdf" in said and "--force" in said
    assert main(["score", str(bench), "--candidate", "good", "--force"]) == 0


def test_several_candidates_are_compared_in_one_table(bench, tmp_path, capsys):
    for page in ("a_pg1", "a_pg2", "sub/b_pg1"):
        write(bench, "[red]x", f"{page}_repeat1.md", "alpha beta")
    out = tmp_path / "out"
    words = ["compare", "--candidate", "good", "--against", "poor", "--against", "[red]x"]
    words.append(str(bench))
    assert main([*words, "--json", str(out / "c.json"), "--html", str(out / "c.html")]) == 0
    said = capsys.readouterr().out
    lines = [line.split("\u2502")[1:-1] for line in said.splitlines() if "\u2502" in line]
    cells = [[cell.strip() for cell in line] for line in lines]
    assert cells[:3] == [
        ["baseline", "good", "100.0%", "", ""],
        ["", "poor", "100.0%", "+0.0%", "+0.0% to +0.0%"],
        ["", "[red]x", "100.0%", "+0.0%", "+0.0% to +0.0%"],
    ]
    assert cells[4][:4] == ["", "poor", "50.0%", "+50.0%"]
    assert cells[-1][:4] == ["", "[red]x", "88.9%", "+11.1%"]
    assert "by Holm, for 2 comparisons" in " ".join(said.split())
    saved = json.loads((out / "c.json").read_text())
    assert [row["candidate"] for row in saved["candidates"]] == ["good", "poor", "[red]x"]
    second = saved["comparisons"][1]
    assert second["second"] == "[red]x" and second["difference"] == pytest.approx(1 / 9)
    assert second["intervals"]["two.jsonl"][0] <= second["categories"]["two.jsonl"]
    page = (out / "c.html").read_text()
    assert "[red]x" in page and "<script" not in page


def test_a_comparison_says_what_is_missing(bench, capsys):
    (bench / "poor" / "sub" / "b_pg1_repeat1.md").unlink()
    words = ["compare", str(bench), "--candidate", "good"]
    assert main([*words, "--against", "poor"]) == 1
    assert "poor has no output for sub/b.pdf page 1" in " ".join(capsys.readouterr().out.split())
    for others, said in (
        (["poor", "poor"], "'poor' is named twice"),
        (["good"], "'good' is named twice"),
        (["gone"], "gone is not a candidate folder"),
    ):
        assert main([*words, *(f"--against={other}" for other in others)]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


@pytest.mark.parametrize("compat", [False, True])
def test_a_byte_order_mark_is_no_text(bench, compat):
    """The public benchmark reads it as text, and so finds no front matter."""
    marked = "\ufeff" + HEAD + "alpha and gamma <script>"
    write(bench, "good", "a_pg1_repeat1.md", marked)
    (bench / "one.jsonl").write_text(
        json.dumps({"type": "absent", "pdf": "a.pdf", "page": 1, "id": "head", "text": "False"})
        + "\n"
    )
    tests = evaluate(load_folder(bench, compat=compat), "good", compat=compat).tests
    assert {t.id: t.passed for t in tests if t.id == "head"} == {"head": not compat}


def test_what_utf8_cannot_hold_is_shown_as_a_sign_in_the_report(bench, tmp_path, capsys):
    row = {"type": "present", "pdf": "a.pdf", "page": 1, "id": "\ud800", "text": "lone \udfff"}
    (bench / "one.jsonl").write_text(json.dumps(row) + "\n")
    words = ["score", str(bench), "--candidate", "poor", "--force"]
    reports = ["--html", str(tmp_path / "r.html"), "--json", str(tmp_path / "r.json")]
    assert main([*words, *reports]) == 0
    page = (tmp_path / "r.html").read_bytes().decode("utf-8")
    assert "&#55296;" in page or "\\ud800" in page
    saved = json.loads((tmp_path / "r.json").read_text())
    assert "\ud800" in {test["id"] for test in saved["tests"]}


def test_outputs_that_belong_to_no_page_are_told_where_others_are_missing(bench, capsys):
    (bench / "good" / "sub" / "b_pg1_repeat1.md").rename(bench / "good/sub/b_page1_repeat1.MD")
    result = evaluate(load_folder(bench), "good")
    assert result.unused == ("sub/b_page1_repeat1.MD",)
    assert main(["score", str(bench), "--candidate", "good"]) == 1
    shown = capsys.readouterr().out
    assert "belongs to no tested page: sub/b_page1_repeat1.MD" in shown
    assert "1 outputs are missing" in shown


def test_whole_outputs_say_nothing_of_other_files(bench, capsys):
    write(bench, "good", "README.md", "notes")
    assert main(["score", str(bench), "--candidate", "good"]) == 0
    assert "no tested page" not in capsys.readouterr().out
