import math

import numpy as np
import pytest

from olmrl.evaluation import figures
from olmrl.evaluation.figures import Tally
from olmrl.types import (
    Completion,
    Page,
    PolicyVersion,
    RewardResult,
    Rollout,
    TestVerdict,
    VersionSpan,
)

HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
    "is_table: False\nis_diagram: False\n---\n"
)


def page(page_id, reference):
    return Page(page_id, "x.pdf", 1, reference)


def rollout(text, verdicts, reason="stop"):
    ids = np.arange(3, dtype=np.int32)
    completion = Completion(
        "g", 0, ids, np.zeros(3, np.float32), (VersionSpan(PolicyVersion(1, 0), 0, 3),),
        reason, text, ids,
    )  # fmt: skip
    tests = tuple(
        TestVerdict(f"t{i}", kind, file, ok) for i, (kind, file, ok) in enumerate(verdicts)
    )
    return Rollout(completion, {"bench": RewardResult(0.5, verdicts=tests)}, 0.5)


def test_pass_rates_count_tests_types_and_files():
    pages = {"a": page("a", None), "b": page("b", None)}
    rows = [
        ("a", rollout("x", [("present", "f1", True), ("table", "f2", False)])),
        ("b", rollout("y", [("present", "f1", True)], reason="length")),
    ]
    found = Tally.of(pages, rows).scores()
    assert found["pass_rate"] == 2 / 3
    assert (found["type/present"], found["type/table"]) == (1.0, 0.0)
    assert found["category_mean"] == 0.5
    assert (found["page_exact"], found["ended"]) == (0.5, 0.5)
    assert "reading" not in found


def test_reading_ignores_layout_but_not_words():
    reference = HEAD + "# moon road\n\n<table><tr><td>salt</td></tr></table>"
    assert figures.reading(HEAD + "moon **road**\n| salt |", reference) == 1.0
    assert figures.reading(HEAD + "moon salt", reference) == 1 - 1 / 3
    assert figures.reading("", reference) == 0.0


def tallied(rows):
    return Tally.of({page_id: page(page_id, None) for page_id, _ in rows}, rows)


def passes(*flags):
    own = [("present", "f1", ok) for ok in flags]
    return rollout("x", [*own, ("baseline", "baseline", True)])


def test_the_error_of_a_pass_rate_takes_pages_for_the_sample():
    """2 of 2, 1 of 4 (two transcriptions), 0 of 2: r = 3/8, deviations 1.25, -0.5, -0.75."""
    rows = [
        ("a", passes(True, True)),
        ("b", passes(True, False)),
        ("b", passes(False, False)),
        ("c", passes(False, False)),
        ("no tests", passes()),
    ]
    tally = tallied(rows)
    rate, error = tally.mean_and_error("pass_rate")
    assert rate == 3 / 8 == tally.scores()["pass_rate"]
    assert error == pytest.approx(math.sqrt(3 / 2 * (1.25**2 + 0.5**2 + 0.75**2)) / 8)


def test_the_error_covers_the_truth_as_often_as_it_should():
    """Pages of unequal difficulty and number of tests, drawn again and again."""
    draws = np.random.default_rng(0)
    truth_pages = [(draws.uniform(), int(draws.integers(1, 9))) for _ in range(4000)]
    truth = sum(p * n for p, n in truth_pages) / sum(n for _, n in truth_pages)
    covered = 0
    for _ in range(80):
        chosen = draws.choice(len(truth_pages), 30, replace=False)
        rows = []
        for number in chosen:
            share, count = truth_pages[number]
            rows += [(str(number), passes(*(draws.random(count) < share))) for _ in range(2)]
        rate, error = tallied(rows).mean_and_error("pass_rate")
        covered += abs(rate - truth) < 1.96 * error
    assert 0.86 <= covered / 80 <= 1.0


def test_figures_of_pages_add_up_to_those_of_all_pages():
    pages = {"b": page("b", "moon salt"), "a": page("a", None)}
    rows = [
        ("b", rollout("moon", [("present", "f1", True), ("table", "f2", False)])),
        ("a", rollout("x", [("present", "f1", True), ("baseline", "baseline", True)])),
        ("a", rollout("y", [("present", "f1", False)], reason="length")),
    ]
    tally = Tally.of(pages, rows)
    found = figures.by_page({"greedy": tally})
    assert found["pages"] == ["a", "b"]
    assert found["sums"]["greedy/pass_rate"] == [1, 1]
    assert found["counts"]["greedy/pass_rate"] == [2, 2]
    assert found["sums"]["greedy/category/f2"] == [0, 0]
    assert found["counts"]["greedy/category/f2"] == [0, 1]
    whole = tally.scores()
    for name in ("pass_rate", "page_exact", "reading", "ended"):
        sums, counts = (sum(found[part][f"greedy/{name}"]) for part in ("sums", "counts"))
        assert sums / counts == pytest.approx(whole[name]), name
    figures.add_halves(found, "greedy", {"b"})
    assert found["sums"]["selection/pass_rate"] == [0, 1]
    assert found["counts"]["reported/pass_rate"] == [2, 0]


def test_a_single_page_has_no_error_and_no_test_no_rate():
    assert tallied([("a", passes())]).mean_and_error("pass_rate") is None
    rate, error = tallied([("a", passes(True))]).mean_and_error("pass_rate")
    assert rate == 1.0 and math.isnan(error)


def test_the_error_of_reading_takes_pages_for_the_sample():
    """Page a: 1 and 0 (two transcriptions), page b: 1. r = 2/3, deviations -1/3 and 1/3."""
    pages = {"a": page("a", "one two"), "b": page("b", "three"), "c": page("c", None)}
    rows = [("a", rollout("one two", [])), ("a", rollout("x y", [])), ("b", rollout("three", [])),
            ("c", rollout("whatever", []))]  # fmt: skip
    tally = Tally.of(pages, rows)
    mean, error = tally.mean_and_error("reading")
    assert mean == pytest.approx(2 / 3) == tally.scores()["reading"]
    assert error == pytest.approx(math.sqrt(2 / 1 * (2 / 9)) / 3)


def test_an_evaluation_records_its_errors_where_there_are_some():
    pages = {"a": page("a", "one"), "b": page("b", "two")}
    rows = [("a", rollout("one", [("present", "f", True)])), ("b", rollout("x", []))]
    scores = figures.record(3, pages, {}, {"greedy": Tally.of(pages, rows)})["scores"]
    assert scores["greedy/reading_error"] == pytest.approx(0.5)
    assert "greedy/pass_rate_error" not in scores, "one page with tests has no error"


def test_tallies_of_several_sets_are_one():
    pages = {"a": page("a", "one two"), "b": page("b", "three")}
    parts = [("a", rollout("one", [("present", "f", True)]))], [("b", rollout("three", []))]
    joined = Tally.joined(Tally.of(pages, rows) for rows in parts)
    assert joined == Tally.of(pages, [*parts[0], *parts[1]])
    assert joined.scores()["reading"] == 0.75


def test_each_transcription_is_looked_at_once(monkeypatch):
    seen = []
    monkeypatch.setattr(figures, "reading", lambda text, reference: seen.append(text) or 0.5)
    pages = {"a": page("a", "one"), "b": page("b", "two")}
    rows = [("a", rollout("x", [("present", "f", True)])), ("b", rollout("y", []))]
    figures.record(3, pages, {}, {"greedy": Tally.of(pages, rows)})
    assert seen == ["x", "y"]
