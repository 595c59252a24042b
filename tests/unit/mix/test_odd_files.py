"""Folders of people's own files: names of any bytes, pipes, capitals; none ends a verb."""

import json
import os

import pytest
from data_pdfs import pdf_bytes, rewrite, write_pdf

from olmrl.mix.pdf import page_text
from olmrl.synth.derived.furniture import margin_lines


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for n, name in enumerate((b"a b", b"x::y", b"latin\xe9", b"two\nlines", b"~")):
        with open(os.path.join(os.fsencode(folder), name + b".pdf"), "wb") as stream:
            stream.write(pdf_bytes(["hello"], (300 + n, 400)))
    (folder / "X.PDF").write_bytes(pdf_bytes(["hello"], (400, 400)))
    os.mkfifo(folder / "pipe.pdf")
    os.symlink("nowhere", folder / "broken.pdf")
    return folder


def reasons(out, verb):
    summary = json.loads((out / ".mix" / verb / "summary.json").read_text())
    return summary["counts"], sorted(problem["reason"] for problem in summary["problems"])


def test_sample_takes_what_it_can_and_names_the_rest(tmp_path, folder, mix):
    for _ in range(2):  # a restart meets none of them again
        assert mix("sample", folder, tmp_path / "out", "--no-filter") == 0
        counts, said = reasons(tmp_path / "out", "sample")
        assert counts["done"] == 5 and counts["skipped"] == 3
        assert "its name is not UTF-8 text" in said[2] and "No such file" in said[0]
        assert "a pipe" in said[1]


def test_render_skips_a_name_that_no_file_may_have(tmp_path, folder, mix):
    assert mix("render", folder, tmp_path / "out", "--side", 50) == 0
    counts, said = reasons(tmp_path / "out", "render")
    assert counts["done"] == 2 and (tmp_path / "out/X-1.png").exists()
    assert sum("not allowed in a file name" in reason for reason in said) == 2


def test_the_filter_reads_the_text_of_the_page_as_it_is_drawn(tmp_path, mix):
    """Of a cropped page all of the MediaBox is drawn, so all of its text counts."""
    for crop in (None, (10, 10, 20, 20), (900, 900, 950, 950)):
        path = write_pdf(tmp_path / "in" / f"{crop}.pdf", ["a line of text"] * 3)
        if crop:
            rewrite(path, crop=crop)
        assert page_text(str(path), 1).count("a line of text") == 3, crop
        assert margin_lines(str(path)) == margin_lines(str(tmp_path / "in/None.pdf")), crop
