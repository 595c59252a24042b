"""What a folder of pages holds: pairs for SFT or a bench folder for GRPO, training and held out."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

from olmrl.data.page import lone_files, scan_bench, scan_pairs

Method = Literal["sft", "grpo"]
_TRAINING = ("train", "training")
_HELD_OUT = ("heldout", "held_out", "eval", "evaluation", "val", "validation", "test")


class PagesFound(NamedTuple):
    """A data folder."""

    method: Method
    """What its pages are for."""
    train: str
    """Folder of training pages."""
    held_out: str | None
    """Folder of held-out pages."""
    pages: int
    """Training pages."""
    lone: str = ""
    """What lies beside training pairs and is none, in words."""


def look_at(folder: str, method: Method | None = None) -> PagesFound:
    """Find out what a folder holds.

    Args:
        folder: page pairs (X.pdf + X.md) or a bench folder (pdfs/ and *.jsonl); or a folder with
            `train` and `heldout` (or `eval`, `val`, `test`) that are such.
        method: what the pages are wanted for; None: whatever they are good for.

    Raises:
        ValueError: no such folder, or pages that the method cannot use (says what to do).
    """
    if not os.path.isdir(folder):
        raise ValueError(f"{folder}: no such folder")
    parts = sorted(name for name in os.listdir(folder) if os.path.isdir(f"{folder}/{name}"))
    train = next((name for name in parts if name in _TRAINING), None)
    held_out = next((name for name in parts if name in _HELD_OUT), None) if train else None
    root = os.path.abspath(os.path.join(folder, train) if train else folder)
    other = os.path.abspath(os.path.join(folder, held_out)) if held_out else None
    is_bench = os.path.isdir(os.path.join(root, "pdfs"))
    if is_bench and method == "sft":
        raise ValueError(
            f"{root}: is a bench folder, which has tests and no texts to learn; it is for grpo, "
            "sft takes page pairs (X.pdf beside X.md)"
        )
    if not is_bench and method == "grpo":
        raise ValueError(
            f"{root}: is not a bench folder (no pdfs/), and grpo learns from unit tests; of page "
            f"pairs `olmrl synth tests {root} OUT` makes one"
        )
    if is_bench:
        return PagesFound("grpo", root, other, len(scan_bench(root)))
    scan = scan_pairs(root)
    lone = lone_files(len(scan.orphans), len(scan.lone_pdfs))
    return PagesFound("sft", root, other, len(scan.sources), lone)
