from __future__ import annotations

from pathlib import Path

from data_pairs import HEAD, PIPELINE, make_pairs

from olmrl.data.order import order
from olmrl.data.page import scan_pairs
from olmrl.data.steps import Pipeline, build_pipeline
from olmrl.data.text_rules import _rule_of, kept_pages, known_rules

TABLE = "| a | b |\n|---|---|\n| 1 | 2 |"


def names(pipeline: Pipeline) -> list[str]:
    return [type(step).__name__ for step in pipeline.steps]


def test_rules_on_the_text_are_taken_up_to_the_first_augmentation():
    assert names(build_pipeline(PIPELINE).text_rules()) == [
        "FrontMatterParser",
        "DatasetTextRuleFilter",
    ]
    late = [*PIPELINE[:1], *PIPELINE[2:], {"name": "FilterOutRotatedDocuments"}]
    assert names(build_pipeline(late).text_rules()) == []
    behind = [*PIPELINE[:1], *PIPELINE[2:3], {"name": "ReformatLatexBoldItalic"}, PIPELINE[1]]
    assert names(build_pipeline(behind).text_rules()) == [
        "FrontMatterParser",
        "ReformatLatexBoldItalic",
        "DatasetTextRuleFilter",
    ]


def test_pages_are_judged_without_their_image(tmp_path: Path):
    root = make_pairs(tmp_path / "set", 5)
    (root / "1.md").write_text(HEAD + TABLE)
    (root / "2.md").write_text("---\nno front matter")
    (root / "3.md").unlink()
    (root / "3.md").symlink_to("3.md")
    for path in root.glob("*.pdf"):
        path.write_bytes(b"")
    pipeline = build_pipeline(PIPELINE)
    pages = tuple((source, pipeline) for source in scan_pairs(str(root)).sources)
    found = [_rule_of(page) for page in pages]
    assert found == ["", "DatasetTextRuleFilter: markdown table", "", None, ""]
    assert known_rules(pages, str(tmp_path)) == [None] * 5
    plain = build_pipeline([PIPELINE[0], *PIPELINE[2:]])
    assert known_rules([(source, plain) for source, _ in pages], str(tmp_path)) == [""] * 5


def test_kept_pages_of_whole_and_begun_epochs():
    kept = [True, False, True, True, False, True, True]
    for epochs in (0.1, 0.5, 1.0, 1.3, 2.0, 3.7):
        places = [(e, int(k)) for e in range(4) for k in order(7, 9, e)]
        taken = [k for n, (_, k) in enumerate(places) if n < epochs * 7]
        assert kept_pages(kept, epochs, seed=9) == sum(kept[k] for k in taken)
