from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from data_pdfs import write_pdf
from PIL import Image

from olmrl.config import SftConfig, load
from olmrl.data.__main__ import main
from olmrl.data.encode import EncoderSpec
from olmrl.data.order import order
from olmrl.data.page_sets import ExampleWork
from olmrl.data.sets import scan_sets
from olmrl.data.steps import Dropped
from olmrl.storage import read_jsonl

HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
    "is_table: False\nis_diagram: False\n---\n"
)


@pytest.fixture
def config(tmp_path: Path, tiny_model: Path) -> Path:
    for name, text in {"a": "first page", "b": "| a | b |\n|---|---|\n| 1 | 2 |"}.items():
        write_pdf(tmp_path / "set" / f"{name}.pdf", size=(100, 120))
        (tmp_path / "set" / f"{name}.md").write_text(HEAD + text)
    steps = [
        {"name": "FrontMatterParser"},
        {"name": "DatasetTextRuleFilter"},
        {"name": "PDFRenderer", "target_longest_image_dim": 84},
        {"name": "Prompt"},
        {"name": "FrontMatterOutputFormat"},
        {"name": "InstructUserMessages"},
        {"name": "Tokenizer"},
    ]
    root = str(tmp_path / "set")
    data = {"train": [{"root": root}], "evaluation": [{"root": root, "name": "held"}]}
    values = {"model": {"path": str(tiny_model)}, "data": {**data, "pipeline": steps}}
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "sft.yaml"


def test_one_page_with_tokens_labels_and_image(config: Path, tmp_path: Path, capsys):
    image = tmp_path / "page.png"
    arguments = ["--config", str(config), "--index", "0", "--tokens", "--save-image", str(image)]
    assert main(["show", *arguments]) == 0
    out = capsys.readouterr().out
    assert "page 0 of 2 in train" in out
    assert "image 70 x 84 pixels, patch grid [[1, 6, 4]], 6 tokens" in out
    assert "<|vision_start|><|image_pad|> x 6<|vision_end|>" in out
    assert HEAD + "first page<|im_end|>" in out
    assert Image.open(image).size == (70, 84)
    token_rows = out.split("--- tokens")[1].splitlines()[1:]
    assert any("image tokens ..." in row and row.split()[2] == "." for row in token_rows)
    assert [r for r in token_rows if r.strip()][-2].split()[1:3] == ["2", "2"]


def test_dropped_pages_name_their_rule_and_evaluation_keeps_them(config: Path, capsys):
    assert main(["show", "--config", str(config), "--page", "b.pdf"]) == 0
    assert "dropped by DatasetTextRuleFilter: markdown table" in capsys.readouterr().out
    assert main(["show", "--config", str(config), "--page", "b.pdf", "--set", "held"]) == 0
    assert "| 1 | 2 |<|im_end|>" in capsys.readouterr().out
    assert main(["show", "--config", str(config), "data.max_tokens=20"]) == 0
    assert "dropped in training: more than data.max_tokens=20" in capsys.readouterr().out


def test_a_page_is_shown_as_training_augments_it_in_its_first_epoch(
    config: Path, tmp_path: Path, tiny_model: Path, capsys
):
    root = tmp_path / "set"
    for name in "cdef":
        write_pdf(root / f"{name}.pdf", size=(100, 120))
        (root / f"{name}.md").write_text(HEAD + name)
    values = yaml.safe_load(config.read_text())
    values["data"]["pipeline"].insert(3, {"name": "RotationAugmentation", "probability": 0.6})
    values["training"] = {"shuffle_seed": 5}
    config.write_text(yaml.safe_dump(values))
    pages, _ = scan_sets(load(SftConfig, config).data)
    spec = EncoderSpec(str(tiny_model))
    work = ExampleWork(pages, spec, 4000, seed=5)
    turned = 0
    for place, item in enumerate(order(6, 5, 0).tolist()):
        assert main(["show", "--config", str(config), "--index", str(item)]) == 0
        out = capsys.readouterr().out
        assert f"augmented as at place {place} of epoch 0" in out
        example = work.example(0, place, item)
        if not isinstance(example, Dropped):
            assert spec.build().tokenizer.decode(example.labels) in out
            turned += "is_rotation_valid: False" in out
    assert 1 < turned < 5


def test_the_histogram_counts_lengths_and_lists_what_was_dropped(
    config: Path, tmp_path: Path, capsys
):
    root = tmp_path / "set"
    write_pdf(root / "c.pdf", pages=2)
    write_pdf(root / "d.pdf", size=(100, 120))
    (root / "c.md").write_text(HEAD + "x")
    (root / "d.md").write_text("---\nno front matter")
    for name in ("long", "longer"):
        write_pdf(root / f"{name}.pdf", size=(100, 120))
        (root / f"{name}.md").write_text(HEAD + "long " * 900)
    lost = tmp_path / "lost.jsonl"
    arguments = ["--config", str(config), "--histogram", "--dropped", str(lost)]
    assert main(["show", *arguments, "data.max_tokens=2000"]) == 0
    out = capsys.readouterr().out
    # the scan of `data show` does not open pages, so c is still in; rendering takes its first page
    assert "2 of 6 pages kept, 1 bad" in out
    assert "2 dropped by Tokenizer: more than 2000 tokens" in out
    bins = [line.split() for line in out.splitlines() if line.endswith("#")]
    assert sum(int(count) for _, count, _ in bins) == 2
    longest = int(re.search(r"longest (\d+), data.max_tokens 2000", out)[1])
    low, high = map(int, bins[-1][0].split("-"))
    assert low <= longest <= high
    assert "4 dropped and bad pages written to" in out
    rows = {Path(row["pdf"]).name: row for _, row in read_jsonl(lost)}
    assert rows["b.pdf"]["step"] == "DatasetTextRuleFilter"
    assert rows["b.pdf"]["rule"] == "markdown table"
    assert "front matter is missing" in rows["d.pdf"]["rule"] and rows["d.pdf"]["step"] == ""
    assert rows["long.pdf"]["rule"] == rows["longer.pdf"]["rule"] == "more than 2000 tokens"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--index", "2"], "--index 2: train has pages 0 to 1"),
        (["--page", "zzz"], "no path of train contains it"),
        (["--set", "other"], "allowed: train, held"),
        (["model.path=/nowhere"], "/nowhere: no such folder"),
        (["data.pipelin=[]"], "did you mean"),
    ],
)
def test_wrong_requests_end_in_one_sentence(config: Path, capsys, arguments, message):
    assert main(["show", "--config", str(config), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("python -m olmrl.data show: ")
    assert message in error
