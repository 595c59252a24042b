"""The answer that a report opens with: figures, errors and words."""

import math

import numpy as np
import pytest
from report_run import new_run, write_evaluation

from olmrl.report.answer import all_changes, answer, paired_error, signed


def evaluated(tmp_path, *rows, **settings):
    directory = new_run(tmp_path)
    for step, passed in rows:
        write_evaluation(directory, step, passed, **settings)
    return directory.evaluations()


def test_the_error_of_a_change_is_that_of_its_pages():
    """By hand: rates 4/8 and 6/8; u = (p' - 3/4 t)/8 - (p - 1/2 t)/8 on pages of 2, 2 and 4."""
    error = paired_error(([0, 1, 3], [1, 2, 3]), ([2, 2, 4], [2, 2, 4]))
    u = [(1 - 1.5) / 8 - (0 - 1) / 8, (2 - 1.5) / 8 - (1 - 1) / 8, (3 - 3) / 8 - (3 - 2) / 8]
    assert error == pytest.approx(math.sqrt(3 / 2 * sum(x * x for x in u)))


def test_the_error_of_a_change_agrees_with_drawing_pages_again_and_again():
    draws = np.random.default_rng(1)
    tests = draws.integers(1, 9, 60)
    easy = draws.uniform(size=60)
    before, after = draws.binomial(tests, easy), draws.binomial(tests, np.minimum(1, easy + 0.1))
    again = draws.integers(0, 60, (4000, 60))
    counts = tests[again].sum(1)
    changes = after[again].sum(1) / counts - before[again].sum(1) / counts
    told = paired_error((list(before), list(after)), (list(tests), list(tests)))
    assert told == pytest.approx(changes.std(), rel=0.06)


def test_pages_that_all_move_alike_leave_no_doubt_and_one_page_leaves_all():
    assert paired_error(([1, 1], [2, 2]), ([4, 4], [4, 4])) == 0.0
    assert paired_error(([1], [2]), ([4], [4])) is None
    assert paired_error(([0, 0], [0, 0]), ([0, 0], [0, 0])) is None


def test_a_rise_beyond_its_error_is_said_with_interval_and_pages(tmp_path):
    found = answer(evaluated(tmp_path, (0, [1, 1, 2]), (40, [3, 4, 4])), {})
    assert "held-out pages, read greedily rose from 0.333 to 0.917 (+0.583 ± 0.167)" in (
        found.headline
    )
    assert "over 40 steps" in found.headline
    assert "of 3 pages" in found.notes[0] and "another seed" in found.notes[0]
    assert found.notes[1] == "No figure became worse."
    names = [change.name for change in found.changes]
    assert "greedy/category/p.jsonl" in names and "greedy/type/present" not in names


def test_a_change_within_its_error_is_called_none(tmp_path):
    found = answer(evaluated(tmp_path, (0, [1, 3, 2]), (40, [3, 1, 3])), {})
    assert found.headline.startswith("No clear change: the pass rate")


def test_a_fall_is_said(tmp_path):
    found = answer(evaluated(tmp_path, (0, [4, 4, 3]), (40, [1, 1, 0])), {})
    assert "fell from 0.917 to 0.167" in found.headline
    told = "greedy/pass rate -0.750 ± 0.000, greedy/p -0.750 ± 0.000"
    assert found.notes[1] == f"Worse, beyond their error: {told}."
    assert not any("tokens" in note for note in found.notes)


def test_older_runs_without_figures_of_pages_have_a_wider_interval(tmp_path):
    rows = evaluated(tmp_path, (0, [1, 1, 2]), (40, [3, 4, 4]))
    for row in rows:
        del row["by_page"]
    change = all_changes(*rows)[0]
    assert not change.paired and change.error == pytest.approx(0.05 * math.sqrt(2))
    assert signed(change) == "+0.583 ± 0.141"
    assert "different pages" in answer(rows, {}).notes[0]


def test_a_category_of_pages_read_twice_gets_no_error_it_has_not(tmp_path):
    rows = evaluated(tmp_path, (0, [1, 1, 2]), (40, [3, 4, 4]))
    rows[1]["scores"]["greedy/category/p.jsonl"] = 1.0  # by majority, not a share
    (change,) = [c for c in all_changes(*rows) if "category" in c.name]
    assert change.error is None and change.verdict == "" and signed(change) == "+0.667"


def test_one_evaluation_is_a_figure_and_no_change(tmp_path):
    found = answer(evaluated(tmp_path, (40, [3, 4, 4])), {})
    assert "is 0.917 ± 0.100" in found.headline and "no earlier evaluation" in found.headline
    assert found.changes == ()


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, "nothing here says whether reading improved"),
        ({"eval/loss": ([0], [2.0])}, "nothing here says whether reading improved"),
        ({"eval/loss": ([0, 50, 100], [2.0, 0.5, 1.0])}, "loss fell from 2.000 to 1.000 (-1.000)"),
    ],
)
def test_a_run_that_reads_no_pages(columns, said):
    found = answer([], columns)
    assert said in found.headline
    if len(columns.get("eval/loss", ((),))[0]) > 1:
        assert "lowest at step 50: 0.500" in found.notes[0]


def test_without_held_out_pages_training_is_told_for_what_it_is():
    rewards = [1.0] * 10 + [2.0] * 10
    found = answer([], {"reward/mean": (list(range(20)), rewards)})
    assert "mean reward in training went from 1.000 to 2.000" in found.notes[0]
    assert "each on other pages" in found.notes[0]


def test_the_best_checkpoint_is_named_if_it_is_not_the_last(tmp_path):
    rows = evaluated(tmp_path, (0, [1, 1, 2]), (20, [4, 4, 4]), (40, [3, 4, 4]))
    for row, chosen in zip(rows, (0.2, 0.9, 0.8), strict=True):
        row["scores"] |= {"selection/pass_rate": chosen, "reported/pass_rate": chosen - 0.1}
    found = answer(rows, {})
    assert "did not choose the checkpoint rose" in found.headline or "error is" in found.headline
    assert any("step 20" in note and "0.800" in note for note in found.notes)
