"""Which pages of PDFs `synth from-pdfs` takes: by content, filtered, without copies."""

import shutil

import pytest
from reportlab.pdfgen.canvas import Canvas

from olmrl.synth.pdfs.source_pages import Choice, choose_pages

WORDS = ("harbour", "lantern", "meadow", "orchard", "pebble")


def write(path, pages, encrypt=None):
    canvas = Canvas(str(path), pagesize=(300, 400), invariant=1, encrypt=encrypt)
    for number in range(pages):
        for line in range(15):
            words = [f"{path.stem}{number}{word}{line}" for word in WORDS[:4]]
            canvas.drawString(10, 380 - 20 * line, " ".join(words))
        canvas.showPage()
    canvas.save()


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    folder = tmp_path_factory.mktemp("books")
    write(folder / "a.pdf", 5)
    write(folder / "b.pdf", 2)
    write(folder / "locked.pdf", 1, encrypt="secret")
    shutil.copy(folder / "b.pdf", folder / "copy of b.pdf")
    (folder / "empty.pdf").write_bytes(b"")
    (folder / "damaged.pdf").write_bytes((folder / "a.pdf").read_bytes()[:300])
    return folder


def test_bad_pdfs_are_listed_and_pages_named_by_content(books, tmp_path):
    chosen = choose_pages(str(books), str(tmp_path), Choice(pages_per_pdf=3), 1)
    assert chosen.documents == 6
    assert len(chosen.pages) == 5 and len({page.name for page in chosen.pages}) == 5
    reasons = {path.rpartition("/")[2]: why for path, why in chosen.left.items()}
    assert "password" in reasons["locked.pdf"] and reasons["empty.pdf"] == "the file is empty"
    assert "damaged.pdf" in reasons
    assert any("same content as" in why for why in reasons.values())

    listed = tmp_path / "list.txt"
    listed.write_text(f"{books / 'b.pdf'}\n{books / 'a.pdf'}\n")
    again = choose_pages(str(listed), str(tmp_path / "again"), Choice(pages_per_pdf=3), 1)
    assert [page.name for page in again.pages] == [page.name for page in chosen.pages]


def test_one_more_pdf_moves_no_other(books, tmp_path):
    few = choose_pages(str(books / "a.pdf"), str(tmp_path / "a"), Choice(seed=3), 1)
    both = choose_pages(str(books / "[ab].pdf"), str(tmp_path / "b"), Choice(seed=3), 1)
    assert {page.name for page in few.pages} < {page.name for page in both.pages}


def test_pdfs_of_an_earlier_call_are_no_source(books, tmp_path):
    shutil.copy(books / "a.pdf", tmp_path)
    (tmp_path / "out" / "bench").mkdir(parents=True)
    write(tmp_path / "out" / "bench" / "made.pdf", 1)
    out = str(tmp_path / "out")
    assert choose_pages(str(tmp_path), f"{out}/work", Choice(), 1, out).documents == 1


def test_a_place_without_pdfs_is_one_sentence(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="none: no PDF in it"):
        choose_pages(str(tmp_path / "none"), str(tmp_path / "out"), Choice(), 1)
    with pytest.raises(ValueError, match="no such file or folder"):
        choose_pages(str(tmp_path / "nowhere"), str(tmp_path / "out"), Choice(), 1)
