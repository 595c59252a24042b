from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_pdfs import write_pdf
from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from olmrl.data.anchor import anchor_text, clean, merge_boxes
from olmrl.data.render import BadPage


def test_texts_and_images_with_their_place(tmp_path: Path):
    path = tmp_path / "a.pdf"
    canvas = Canvas(str(path), pagesize=(612, 792))
    picture = ImageReader(Image.fromarray(np.full((4, 4, 3), 90, np.uint8)))
    canvas.drawImage(picture, 100, 200, 50, 60)
    canvas.drawString(72, 700, "First [line]")
    canvas.drawString(72, 650, "Second")
    canvas.save()
    lines = anchor_text(str(path), 1, 4000).splitlines()
    assert lines[0] == "Page dimensions: 612.0x792.0"
    assert lines[1] == "[Image 100x200 to 150x260]"
    assert "[72x700]First \\[line\\]" in lines
    assert "[72x650]Second" in lines


def test_limit_is_kept_and_the_choice_is_repeatable(tmp_path: Path):
    lines = [f"line number {k}" for k in range(40)]
    path = str(write_pdf(tmp_path / "a.pdf", lines=lines, size=(300, 800)))
    everything = anchor_text(path, 1, 10_000)
    short = anchor_text(path, 1, 300)
    assert len(short) <= 300 < len(everything)
    assert short == anchor_text(path, 1, 300)
    assert "line number 0" in short, "the topmost element is kept"
    assert "line number 39" in short, "the lowest element is kept"
    assert set(short.splitlines()) < set(everything.splitlines())
    assert anchor_text(path, 1, 19).count("\n") == 1
    assert anchor_text(path, 1, -1).endswith("[Image 0x0 to 300x800]\n")


def test_long_texts_keep_head_and_tail_at_spaces():
    shortened = clean("alpha " * 100)
    assert shortened.startswith("alpha alpha")
    assert shortened.endswith("alpha")
    assert " ... " in shortened
    assert len(shortened) <= 250
    assert "alph " not in shortened
    assert clean(" caf\u00c3\u00a9\tx ") == "caf\u00e9\\tx"


def test_touching_boxes_become_one():
    boxes = [(0, 0, 10, 10), (10.4, 0, 20, 10), (30, 30, 40, 40), (20.3, 5, 29, 35)]
    assert sorted(merge_boxes(boxes)) == [(0, 0, 29, 35), (30, 30, 40, 40)]
    assert merge_boxes([(0, 0, 1, 1), (5, 5, 6, 6), (0.5, 0.5, 5.5, 5.5)]) == [(0, 0, 6, 6)]


def test_unreadable_pages(tmp_path: Path):
    (tmp_path / "a.pdf").write_bytes(b"junk")
    with pytest.raises(BadPage, match="no anchor text"):
        anchor_text(str(tmp_path / "a.pdf"), 1, 100)
    with pytest.raises(BadPage, match="no anchor text"):
        anchor_text(str(write_pdf(tmp_path / "b.pdf")), 2, 100)
