"""Folders of page pairs and SFT configurations for tests."""

from __future__ import annotations

from pathlib import Path

from data_pdfs import write_pdf

from olmrl.config import SftConfig
from olmrl.config.load import validate as validate_config

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


def make_pairs(root: Path, count: int, text: str = "page") -> Path:
    for k in range(count):
        write_pdf(root / f"{k}.pdf", size=(100, 120))
        (root / f"{k}.md").write_text(f"{HEAD}{text} {k}", "utf-8")
    return root


def config(tmp_path: Path, **data) -> SftConfig:
    values = {"pipeline": PIPELINE, "cache_dir": str(tmp_path / "cache"), **data}
    return validate_config(SftConfig, {"model": {"path": "x"}, "data": values}, "test")
