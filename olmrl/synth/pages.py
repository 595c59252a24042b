"""Writes folders of synthetic pages: bench folders to train and test on, page pairs for warm-up.

    OUT/train, OUT/heldout   bench folders: pdfs/, *.jsonl, true claude_original/
    OUT/sft_clean            page pairs with true labels, to learn to read
    OUT/sft                  page pairs whose labels have a labeller's habits
    OUT/sft_heldout          the held-out pages as page pairs with true labels

The same seed gives the same bytes; the splits never share a random stream.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from functools import partial
from pathlib import Path

from olmrl.mix import files
from olmrl.progress import track
from olmrl.synth.invented.labels import RATES, draw_habits, write_label
from olmrl.synth.invented.sheet import STYLES, Sheet, Style, draw, invent
from olmrl.synth.invented.truth import FILES, TestRow, make_tests

FOLDER = "synth"
"""The one sub-folder of pdfs/."""


def _page(seed: int, split: str, index: int, style: Style) -> tuple[Sheet, bytes, random.Random]:
    rng = random.Random(f"{seed}/{split}/{index}")
    sheet = invent(rng, style)
    return sheet, draw(sheet, style, rng), rng


def _style(difficulty: int) -> Style:
    if difficulty not in STYLES:
        raise ValueError(f"difficulty: {difficulty} is unknown, allowed: {sorted(STYLES)}")
    return STYLES[difficulty]


def write_bench(
    out: Path, split: str, count: int, *, seed: int, difficulty: int, whole_lines: bool = False
) -> Path:
    """Write a bench folder of `count` pages with true references and unit tests (`make_tests`).

    Raises:
        ValueError: Unknown difficulty.
    """
    style = _style(difficulty)
    folder = out / split
    pdfs, references = folder / "pdfs" / FOLDER, folder / "claude_original" / FOLDER
    pdfs.mkdir(parents=True, exist_ok=True)
    references.mkdir(parents=True, exist_ok=True)
    tests: dict[str, list[TestRow]] = {name: [] for name in FILES.values()}
    for index in track(range(count), f"pages of {split}", count):
        sheet, pdf, rng = _page(seed, split, index, style)
        name = f"sheet_{index:05d}"
        files.write(str(pdfs / f"{name}.pdf"), pdf)
        reference = references / f"{name}_page1_pg1_repeat1.md"
        files.write_text(str(reference), write_label(sheet))
        for row in make_tests(sheet, f"{FOLDER}/{name}.pdf", rng, whole_lines=whole_lines):
            tests[FILES[row["type"]]].append(row)
    for file, rows in tests.items():
        if rows:
            files.write_text(str(folder / file), "".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_pairs(
    out: Path,
    split: str,
    count: int,
    *,
    seed: int,
    difficulty: int,
    rates: dict[str, float] | None = None,
    source: str | None = None,
) -> Path:
    """Write page pairs, and `habits.jsonl`, which records what is wrong with which label.

    Args:
        out: Parent of the split's folder.
        split: Name of the folder, and of the random stream unless `source` is given.
        count: Number of pages.
        seed: Seed of the data set.
        difficulty: A key of `STYLES`.
        rates: How often each habit appears; None: true labels.
        source: The split to take the pages from.

    Raises:
        ValueError: Unknown difficulty or habit.
    """
    style = _style(difficulty)
    folder = out / split
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for index in track(range(count), f"pages of {split}", count):
        sheet, pdf, rng = _page(seed, source or split, index, style)
        habits = draw_habits(rng, rates or {})
        name = f"sheet_{index:05d}"
        files.write(str(folder / f"{name}.pdf"), pdf)
        files.write_text(str(folder / f"{name}.md"), write_label(sheet, habits))
        records.append({"name": name, **asdict(habits)})
    if rates:
        text = "".join(json.dumps(record) + "\n" for record in records)
        files.write_text(str(folder / "habits.jsonl"), text)
    return folder


def write_data_set(
    out: str | Path,
    *,
    train: int,
    heldout: int,
    sft: int,
    clean: int = 0,
    seed: int = 0,
    difficulty: int = 1,
    rates: dict[str, float] | None = None,
    whole_lines: bool = False,
) -> Path:
    """Write all splits; a count of 0 leaves its folder out.

    Args:
        out: Folder to write.
        train: Pages of `OUT/train`.
        heldout: Pages of `OUT/heldout`, and of `OUT/sft_heldout` if there is warm-up data.
        sft: Page pairs of `OUT/sft`.
        clean: Page pairs of `OUT/sft_clean`.
        seed: Seed of everything.
        difficulty: A key of `STYLES`.
        rates: Habits of the warm-up labels; None takes `labels.RATES`.
        whole_lines: What unit tests ask for (`make_tests`).

    Raises:
        ValueError: A negative count, all counts 0, or an unknown difficulty or habit.
    """
    counts = {"train": train, "heldout": heldout, "sft": sft, "clean": clean}
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"{name} is {count}, must be >= 0")
    if not any(counts.values()):
        raise ValueError("nothing to write: train, heldout, sft and clean are all 0")
    folder = Path(out)
    bench = partial(write_bench, folder, seed=seed, difficulty=difficulty, whole_lines=whole_lines)
    pairs = partial(write_pairs, folder, seed=seed, difficulty=difficulty)
    for split in ("train", "heldout"):
        if counts[split]:
            bench(split, counts[split])
    if sft:
        pairs("sft", sft, rates=RATES if rates is None else rates)
    if clean:
        pairs("sft_clean", clean)
    if heldout and (sft or clean):
        pairs("sft_heldout", heldout, source="heldout")
    return folder
