from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from data_pdfs import raw_pdf, rewrite, write_pdf
from pypdf import PdfWriter

from olmrl.data.render import BadPage, page_count, render_page


def dark_corner(image: np.ndarray) -> str:
    """Which corner of the page is black."""
    height, width, _ = image.shape
    corners = {
        "top left": image[5, 5],
        "top right": image[5, width - 6],
        "bottom left": image[height - 6, 5],
        "bottom right": image[height - 6, width - 6],
    }
    dark = [name for name, pixel in corners.items() if pixel.max() < 50]
    return ", ".join(dark)


@pytest.mark.parametrize(
    ("points", "longest", "pixels"),
    [
        ((612, 792), 1288, (1288, 996)),  # portrait letter
        ((595.28, 841.89), 1288, (1288, 911)),  # A4
        ((792, 612), 1288, (996, 1288)),
        ((300, 300), 333, (333, 333)),
        ((100, 200), 1000, (1000, 500)),
        ((2, 300), 300, (300, 2)),
    ],
)
def test_longest_side_is_exact_and_the_other_rounds_up(tmp_path: Path, points, longest, pixels):
    path = write_pdf(tmp_path / "a.pdf", size=points)
    image = render_page(str(path), 1, longest)
    assert image.shape == (*pixels, 3)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_rotate_entry_is_honoured_clockwise(tmp_path: Path, turn: int):
    path = rewrite(write_pdf(tmp_path / "a.pdf"), rotate=turn)
    expected = {0: "top left", 90: "top right", 180: "bottom right", 270: "bottom left"}
    image = render_page(str(path), 1, 150)
    assert dark_corner(image) == expected[turn]
    assert image.shape[:2] == ((150, 100) if turn % 180 == 0 else (100, 150))


def test_whole_media_box_is_drawn_whatever_the_crop_box(tmp_path: Path):
    path = rewrite(write_pdf(tmp_path / "a.pdf"), crop=(50, 50, 100, 100))
    image = render_page(str(path), 1, 300)
    assert image.shape == (300, 200, 3)
    assert dark_corner(image) == "top left"


@pytest.mark.parametrize("crop", ["", "/CropBox [0 0 50 50]"])
def test_media_box_inherited_from_the_page_tree(tmp_path: Path, crop: str):
    path = tmp_path / "a.pdf"
    path.write_bytes(raw_pdf("/MediaBox [0 0 100 400]", crop))
    image = render_page(str(path), 1, 400)
    assert image.shape == (400, 100, 3)
    assert dark_corner(image) == "bottom left"


def test_media_box_away_from_the_origin(tmp_path: Path):
    path = tmp_path / "a.pdf"
    path.write_bytes(raw_pdf("", "/MediaBox [-60 -160 40 40]"))
    image = render_page(str(path), 1, 200)
    assert image.shape == (200, 100, 3)
    assert dark_corner(image) == "top right"


def test_red_is_the_first_channel(tmp_path: Path):
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(50, 50))
    canvas.setFillColorRGB(1, 0, 0)
    canvas.rect(0, 0, 50, 50, fill=1, stroke=0)
    canvas.save()
    assert render_page(str(tmp_path / "a.pdf"), 1, 20)[10, 10].tolist() == [255, 0, 0]


def test_second_page_is_drawn(tmp_path: Path):
    path = write_pdf(tmp_path / "a.pdf", pages=3)
    assert page_count(str(path)) == 3
    assert render_page(str(path), 3, 60).shape == (60, 40, 3)


def broken_files(folder: Path) -> dict[str, Path]:
    good = write_pdf(folder / "good.pdf")
    truncated = folder / "truncated.pdf"
    truncated.write_bytes(good.read_bytes()[:60])
    empty = folder / "empty.pdf"
    empty.write_bytes(b"")
    text = folder / "text.pdf"
    text.write_text("this is no PDF")
    no_pages = folder / "no_pages.pdf"
    PdfWriter().write(no_pages)
    thin = write_pdf(folder / "thin.pdf", size=(3, 900))
    return {
        "no such file": folder / "missing.pdf",
        "empty": empty,
        "truncated": truncated,
        "not a PDF": text,
        "zero pages": no_pages,
        "encrypted": rewrite(write_pdf(folder / "secret.pdf"), password="x"),
        "sides may differ": thin,
        "not a file": folder,
    }


@pytest.mark.parametrize(
    "reason",
    [
        "no such file",
        "empty",
        "truncated",
        "not a PDF",
        "zero pages",
        "encrypted",
        "sides may differ",
        "not a file",
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path: Path, reason: str):
    path = broken_files(tmp_path)[reason]
    with pytest.raises(BadPage, match=reason) as caught:
        render_page(str(path), 1, 100)
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("page", [0, -1, 2])
def test_page_out_of_range(tmp_path: Path, page: int):
    path = write_pdf(tmp_path / "a.pdf")
    with pytest.raises(BadPage, match="the PDF has 1"):
        render_page(str(path), page, 100)


def test_bad_page_survives_pickling():
    bad = pickle.loads(pickle.dumps(BadPage("a.pdf", 3, "encrypted")))
    assert (bad.path, bad.page_number, bad.reason) == ("a.pdf", 3, "encrypted")
    assert str(bad) == "a.pdf, page 3: encrypted"


def test_remote_pdfs_are_read_through_fsspec(tmp_path: Path):
    import fsspec

    data = write_pdf(tmp_path / "a.pdf").read_bytes()
    with fsspec.open("memory://bench/a.pdf", "wb") as stream:
        stream.write(data)
    assert render_page("memory://bench/a.pdf", 1, 60).shape == (60, 40, 3)
    with pytest.raises(BadPage, match="no such file"):
        render_page("memory://bench/b.pdf", 1, 60)
