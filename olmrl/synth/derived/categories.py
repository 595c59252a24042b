"""Which test file, and so which scoring category, a test belongs to, as in the public benchmark.

By its type (`TEST_FILES`), and where the page is known, by what makes it hard: order across
columns, texts on a long page of tiny type. Variants add `old_scans` (`variants.pictured`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from olmrl.synth.derived.column_order import has_columns
from olmrl.synth.invented.truth import FILES
from olmrl.synth.proof.ink import letter_height
from olmrl.synth.proof.layer import TextLayer

TEST_FILES = {**FILES, "math": "math_tests.jsonl"}
"""The test file (scoring category) of each type."""
_LONG = 2500
"""Letters of a long page."""
_TINY = 4.4
"""Points of the middle letter of tiny type, about 8 points of font size."""


def file_of(test: Mapping[str, Any], layer: TextLayer | None) -> str:
    """The file of a test.

    Args:
        test: Row of a bench file.
        layer: Of its page; None where the page is not looked at.
    """
    kind = test["type"]
    if layer is not None:
        if kind == "order" and has_columns(layer, test["before"], test["after"]):
            return "multi_column.jsonl"
        if kind == "present" and is_long_and_tiny(layer):
            return "long_tiny_text.jsonl"
    return TEST_FILES[kind]


def is_long_and_tiny(layer: TextLayer) -> bool:
    """Whether a page has much text in tiny type."""
    return len(layer.letters) >= _LONG and letter_height(layer) <= _TINY
