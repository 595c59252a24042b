from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray
from data_pdfs import write_pdf

from olmrl.config import ConfigError, SftConfig
from olmrl.config.load import validate as validate_config
from olmrl.data.encode import EncoderSpec
from olmrl.data.example import EncodedExample
from olmrl.data.examples import ExampleStream, ExampleWork, Tally, load_sets
from olmrl.data.page import scan_pairs
from olmrl.data.render import BadPage
from olmrl.data.steps import Dropped
from olmrl.data.validate import CACHE_NAME, check_pair

ROOT = Path(__file__).parents[3]
HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
    "is_table: False\nis_diagram: False\n---\n"
)
PIPELINE = [
    {"name": "FrontMatterParser"},
    {"name": "DatasetTextRuleFilter"},
    {"name": "PDFRenderer", "target_longest_image_dim": 84},
    {"name": "RotationAugmentation", "probability": 0.5},
    {"name": "Prompt"},
    {"name": "FrontMatterOutputFormat"},
    {"name": "InstructUserMessages", "prompt_first": True},
    {"name": "Tokenizer"},
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    python_path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        logging_level=logging.WARNING,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": python_path, "HF_HUB_OFFLINE": "1"}},
    )
    yield
    ray.shutdown()


def make_pairs(root: Path, count: int, text: str = "page") -> Path:
    for k in range(count):
        write_pdf(root / f"{k}.pdf", size=(100, 120))
        (root / f"{k}.md").write_text(f"{HEAD}{text} {k}", "utf-8")
    return root


def config(tmp_path: Path, **data) -> SftConfig:
    values = {"pipeline": PIPELINE, "cache_dir": str(tmp_path / "cache"), **data}
    return validate_config(SftConfig, {"model": {"path": "x"}, "data": values}, "test")


def test_pairs_that_cannot_be_used_say_why(tmp_path: Path):
    root = make_pairs(tmp_path / "set", 6)
    (root / "0.pdf").write_bytes(b"")
    write_pdf(root / "1.pdf", pages=2)
    (root / "2.md").write_text("no head")
    (root / "3.md").write_bytes(HEAD.encode() + b"\xff")
    (root / "4.md").write_text(HEAD.replace("en\n", "en\nextra: 1\n"))
    reasons = [check_pair(source) for source in scan_pairs(str(root)).sources]
    expected = ["empty", "2 pages", "front matter is missing", "not UTF-8", "'extra'", ""]
    assert all(word in reason for word, reason in zip(expected, reasons, strict=True)), reasons


def test_streams_validation_and_repeats(tmp_path: Path, cluster, tiny_model: Path):
    """One cluster start serves all that needs Ray here."""
    root = make_pairs(tmp_path / "set", 6)
    (root / "5.pdf").write_bytes(b"broken")
    (root / "1.md").write_text(HEAD + "| a | b |\n|---|---|\n| 1 | 2 |")
    (root / "2.md").write_text(HEAD + "long " * 500)
    extra = make_pairs(tmp_path / "extra", 2, "other")
    held = make_pairs(tmp_path / "held", 3)
    settings = config(
        tmp_path,
        train=[{"root": str(root)}, {"root": str(extra), "repeat": 2}],
        evaluation=[{"root": str(held), "name": "books", "limit": 2}],
        max_bad_fraction=0.2,
    )
    loaded = load_sets(settings.data, str(tmp_path))
    assert len(loaded.train.items) == 5 + 2 * 2
    assert [(s.name, len(s.items)) for s in loaded.evaluation] == [("books", 2)]
    assert [Path(bad.path).name for bad in loaded.bad] == ["5.pdf"]
    assert loaded.opened == 11

    # known pairs are not opened again, changed ones are
    assert load_sets(settings.data, str(tmp_path)).opened == 0
    (root / "0.md").write_text(HEAD + "changed")
    assert load_sets(settings.data, str(tmp_path)).opened == 1
    (tmp_path / "cache" / CACHE_NAME).write_bytes(b"damaged")
    assert load_sets(settings.data, str(tmp_path)).opened == 11

    spec = EncoderSpec(str(tiny_model))
    options = {"max_tokens": 600, "seed": 7, "epochs": 2}
    whole = list(ExampleStream(loaded.train, spec, **options))
    assert [item[:2] for item in whole] == [(e, i) for e in range(2) for i in range(9)]
    first = [value for epoch, _, value in whole if epoch == 0]
    drops = {(v.page_id, v.rule) for v in first if isinstance(v, Dropped)}
    assert drops == {("1.pdf::1", "markdown table"), ("2.pdf::1", "more than 600 tokens")}
    kept = [v.page.page_id for v in first if isinstance(v, EncodedExample)]
    assert sorted(kept) == sorted(
        ["0.pdf::1", "3.pdf::1", "4.pdf::1"] + ["0.pdf::1", "1.pdf::1"] * 2
    )

    # a stream that starts in the middle draws the same augmentation
    rest = list(ExampleStream(loaded.train, spec, **options, start_epoch=1, start_index=4))
    assert len(rest) == 5
    for (_, _, got), (_, _, wanted) in zip(rest, whole[13:], strict=True):
        if isinstance(wanted, EncodedExample):
            np.testing.assert_array_equal(got.page.pixel_values, wanted.page.pixel_values)
            np.testing.assert_array_equal(got.labels, wanted.labels)
        else:
            assert got == wanted


def test_augmentation_depends_on_place_and_seed_only(tmp_path: Path, tiny_model: Path):
    root = make_pairs(tmp_path / "set", 4)
    sources = scan_pairs(str(root)).sources
    from olmrl.data.examples import PageItem, PageSet
    from olmrl.data.steps import build_pipeline

    pages = PageSet("x", tuple(PageItem(s, build_pipeline(PIPELINE)) for s in sources))
    work = ExampleWork(pages, EncoderSpec(str(tiny_model)), 1000, seed=1)
    again = ExampleWork(pages, EncoderSpec(str(tiny_model)), 1000, seed=1)
    encoder = EncoderSpec(str(tiny_model)).build()
    upright = []
    for place in range(24):
        one, two = work(0, place, 2), again(0, place, 2)
        np.testing.assert_array_equal(one.page.pixel_values, two.page.pixel_values)
        upright.append("is_rotation_valid: True" in encoder.decode(one.labels))
    assert 4 < sum(upright) < 20


def test_unusable_configurations(tmp_path: Path, cluster):
    root = make_pairs(tmp_path / "set", 3)
    train = [{"root": str(root)}]
    with pytest.raises(ValueError, match=r"data\.pipeline, step 1: unknown step"):
        load_sets(config(tmp_path, train=train, pipeline=[{"name": "X"}]).data, "c")
    with pytest.raises(ValueError, match="it has no Tokenizer step"):
        load_sets(config(tmp_path, train=train, pipeline=PIPELINE[:3]).data, "c")
    with pytest.raises(ValueError, match=r"data\.train\[0\]\.pipeline, step 1"):
        broken = [{"root": str(root), "pipeline": [{"name": "Y"}]}]
        load_sets(config(tmp_path, train=broken).data, "c")
    with pytest.raises(ValueError, match="no such folder"):
        load_sets(config(tmp_path, train=[{"root": str(tmp_path / "gone")}]).data, "c")
    (root / "1.md").write_text("no head")
    with pytest.raises(ValueError, match=r"1 of 3 pages cannot be used.*1\.pdf"):
        load_sets(config(tmp_path, train=train).data, "c")
    with pytest.raises(ConfigError):
        config(tmp_path, train=[])


def test_tally_counts_by_rule_and_refuses_an_empty_epoch():
    tally = Tally()
    for rule in ("markdown table", "markdown table", "LaTeX table"):
        tally.add(Dropped("a", "a.pdf", "DatasetTextRuleFilter", rule))
    tally.add(BadPage("b.pdf", 1, "empty"))
    with pytest.raises(ValueError, match="0 of 4 pages kept, 1 bad"):
        tally.require_some()
    assert tally.summary().splitlines()[1] == "  2 dropped by DatasetTextRuleFilter: markdown table"
    assert tally.measurements()["data/dropped/DatasetTextRuleFilter"].value() == 3
