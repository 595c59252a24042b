"""A verb ends with what was done, skipped and failed, the main reasons, and where all stand."""

import pytest

from olmrl.mix.run import Outcome, Run, alike


def test_reasons_that_differ_in_figures_and_names_only_count_together():
    reasons = ["spam words (0.4 %)", "encrypted", "same content as /a/b.pdf", "spam words (12 %)"]
    reasons += ["same content as c/d.pdf", "spam words (0.6 %)", "no pair named 'x'"]
    assert alike(reasons) == [
        ("spam words (0.4 %)", 3),
        ("same content as /a/b.pdf", 2),
        ("encrypted", 1),
        ("no pair named 'x'", 1),
    ]


def test_nothing_vanishes_without_a_word(tmp_path, capsys):
    with Run("sample", str(tmp_path), {}) as verb:
        verb.record("a", Outcome())
        verb.record("b", Outcome("skipped", "spam words (0.4 %)"))
        verb.record("c", Outcome("failed", "the server is down"))
        verb.record("d", Outcome("skipped", "spam words (0.6 %)"))
    assert capsys.readouterr().err.splitlines() == [
        "sample: 1 done, 2 skipped, 1 failed",
        "sample:   2 x spam words (0.4 %)",
        "sample:   1 x the server is down",
        f"sample: all reasons: {tmp_path}/.mix/sample/summary.json",
    ]


def test_an_error_stays_the_last_word(tmp_path, capsys):
    with pytest.raises(ValueError, match="no such folder"), Run("loc", str(tmp_path), {}) as verb:
        verb.record("b", Outcome("skipped", "spam words"))
        raise ValueError("no such folder")
    assert capsys.readouterr().err == ""
