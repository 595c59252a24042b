from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from data_pairs import HEAD, PIPELINE, config, make_pairs
from data_pdfs import write_pdf

from olmrl.data import validate
from olmrl.data.encode import EncoderSpec
from olmrl.data.page import PageSource, scan_pairs
from olmrl.data.page_sets import ExampleWork
from olmrl.data.render import BadPage, UnreadPage
from olmrl.data.sets import count_sets
from olmrl.data.steps import Dropped
from olmrl.data.tally import Tally
from olmrl.data.validate import CACHE_NAME, PLAIN, check_pair, save_verdicts, stamp, verdicts

ROOT = Path(__file__).parents[3]


def test_pairs_that_cannot_be_used_say_why(tmp_path: Path):
    root = make_pairs(tmp_path / "set", 8)
    (root / "0.pdf").write_bytes(b"")
    write_pdf(root / "1.pdf", pages=2)
    (root / "2.md").write_text("---\nno head")
    (root / "3.md").write_bytes(HEAD.encode() + b"\xff")
    (root / "4.md").write_text(HEAD.replace("en\n", "en\nextra: 1\n"))
    (root / "5.md").write_text("\n")
    (root / "6.md").write_text("markdown alone")
    reasons = [check_pair(source) for source in scan_pairs(str(root)).sources]
    expected = ["empty", "2 pages", "front matter is missing", "not UTF-8", "'extra'", "is empty"]
    assert reasons[6:] == [PLAIN, ""]
    assert all(word in reason for word, reason in zip(expected, reasons, strict=False)), reasons


def test_pages_are_counted_by_known_verdicts_limits_and_repeats(tmp_path: Path):
    root = make_pairs(tmp_path / "set", 5)
    held = make_pairs(tmp_path / "held", 2)
    settings = config(
        tmp_path,
        train=[{"root": str(root), "limit": 3, "repeat": 2}, {"root": str(root), "name": "all"}],
        evaluation=[{"root": str(held)}, {"root": str(tmp_path / "gone")}],
    )
    cache = tmp_path / "cache"
    unseen = count_sets(settings.data, "unused")
    assert [(c.name, c.training, c.pages, c.unseen) for c in unseen] == [
        ("set", True, 6, 5),
        ("all", True, 5, 5),
        ("held", False, 2, 2),
        ("gone", False, 0, 0),
    ]
    assert "no such folder" in unseen[3].problem and not unseen[0].problem
    assert not cache.exists()
    sources = scan_pairs(str(root)).sources
    remember(str(cache), sources, ["", "broken", "", "broken", "broken"])
    known = count_sets(settings.data, "unused")
    assert [(c.pages, c.bad, c.unseen) for c in known[:3]] == [(4, 3, 0), (2, 3, 0), (2, 0, 2)]


def test_verdicts_of_another_format_do_not_count(tmp_path: Path, monkeypatch):
    sources = scan_pairs(str(make_pairs(tmp_path / "set", 1))).sources
    remember(str(tmp_path), sources, ["broken"])
    assert verdicts(sources, str(tmp_path)) == ["broken"]
    monkeypatch.setattr(validate, "_FORMAT", validate._FORMAT + 1)
    assert verdicts(sources, str(tmp_path)) == [None]


def test_a_file_that_cannot_be_read_is_no_verdict_on_the_pair(tmp_path: Path):
    root = make_pairs(tmp_path / "set", 2)
    for name in ("0.pdf", "1.md"):
        (root / name).unlink()
        (root / name).symlink_to(name)  # a loop: no process can open it
    for source in scan_pairs(str(root)).sources:
        with pytest.raises(UnreadPage):
            check_pair(source)


def remember(cache: str, sources: list[PageSource], reasons: list[str]) -> None:
    """Write the verdicts that a run would have left."""
    stamps = [stamp(source) for source in sources]
    save_verdicts(f"{cache}/{CACHE_NAME}", dict(zip(stamps, reasons, strict=True)))


def test_augmentation_depends_on_place_and_seed_only(tmp_path: Path, tiny_model: Path):
    root = make_pairs(tmp_path / "set", 4)
    sources = scan_pairs(str(root)).sources
    from olmrl.data.sets import PageItem, PageSet
    from olmrl.data.steps import build_pipeline

    pages = PageSet("x", tuple(PageItem(s, build_pipeline(PIPELINE)) for s in sources))
    work = ExampleWork(pages, EncoderSpec(str(tiny_model)), 1000, seed=1)
    again = ExampleWork(pages, EncoderSpec(str(tiny_model)), 1000, seed=1)
    encoder = EncoderSpec(str(tiny_model)).build()
    upright = []
    for place in range(24):
        one, two = work.example(0, place, 2), again.example(0, place, 2)
        np.testing.assert_array_equal(one.page.patches, two.page.patches)
        upright.append("is_rotation_valid: True" in encoder.decode(one.labels))
    assert 4 < sum(upright) < 20


def test_tally_counts_by_rule_and_refuses_an_empty_epoch():
    tally = Tally()
    for rule in ("markdown table", "markdown table", "LaTeX table"):
        tally.add(Dropped("a", "a.pdf", 1, "DatasetTextRuleFilter", rule))
    tally.add(BadPage("b.pdf", 1, "empty"))
    with pytest.raises(ValueError, match="0 of 4 pages kept, 1 bad"):
        tally.require_some()
    assert tally.summary().splitlines()[1] == "  2 dropped by DatasetTextRuleFilter: markdown table"
    assert Tally.from_json(json.loads(json.dumps(tally.as_json()))) == tally
    assert tally.measurements("data")["data/dropped/DatasetTextRuleFilter"].value() == 3
