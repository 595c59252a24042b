import numpy as np

from olmrl.evaluation import figures
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
    found = figures.scores(pages, rows)
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
