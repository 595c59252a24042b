"""Folders of people's own files: names of any bytes, pipes, capitals; none ends a verb."""

import errno
import json
import os
from pathlib import Path

import pytest
from data_pdfs import pdf_bytes, rewrite, write_pdf
from mix_support import make_pdf

from olmrl import storage
from olmrl.bench.folder import load_folder
from olmrl.data.bad_page import BadPage, UnreadPage
from olmrl.data.page import scan_bench
from olmrl.mix.pdf import page_text
from olmrl.mix.run import Outcome, lost
from olmrl.synth.derived.furniture import margin_lines

HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
    "is_table: False\nis_diagram: False\n---\n"
)


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
    make_pdf(folder / f"{'n' * 198}.pdf")
    assert mix("render", folder, tmp_path / "out", "--side", 50) == 0
    counts, said = reasons(tmp_path / "out", "render")
    assert counts["done"] == 5 and counts["skipped"] == 4
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {
        *("a b-1.png", "x::y-1.png", "two\nlines-1.png", "~-1.png", "X-1.png")
    }
    assert sum("longer than 200 bytes" in reason for reason in said) == 1


@pytest.fixture
def cases(tmp_path):
    """Two PDFs and a pair in every mixture of letters; all of them are files people have."""
    folder = tmp_path / "cases"
    for name in ("a.pdf", "a.PDF", "B.PDF", "c.Pdf", "lone.PDF"):
        make_pdf(folder / name, [f"page {name}"])
    for name in ("a.md", "B.MD", "c.md", "d.md"):
        (folder / name).write_text(HEAD + f"page {name}\n")
    return folder


def summary_of(out, verb):
    return json.loads((out / ".mix" / verb / "summary.json").read_text())


def test_requests_are_built_of_pdfs_however_their_suffix_is_written(tmp_path, cases, mix):
    out = tmp_path / "out"
    assert mix("openai-build", cases, out, "--side", 50) == 0
    rows = (out / "batch_requests_0000.jsonl").read_text().splitlines()
    assert [json.loads(row)["custom_id"] for row in rows] == ["B", "a", "c", "lone"]
    summary = summary_of(out, "openai-build")
    assert [row["key"] for row in summary["problems"]] == ["a.PDF"]
    assert summary["facts"]["pages"] + summary["counts"]["skipped"] == 5


def test_render_writes_one_of_two_that_would_have_one_name(tmp_path, cases, mix):
    assert mix("render", cases, tmp_path / "out", "--side", 50) == 0
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == [
        *("B-1.png", "a-1.png", "c-1.png", "lone-1.png")
    ]
    assert summary_of(tmp_path / "out", "render")["counts"] == {
        **{"done": 4, "skipped": 1, "failed": 0}
    }


@pytest.mark.parametrize("verb", ["filter", "stats", "decontaminate", "hub-package"])
def test_files_of_a_folder_of_pairs_add_up(tmp_path, cases, mix, capsys, verb):
    out = tmp_path / "out"
    (tmp_path / "drop.jsonl").write_text('{"id": "B"}\n')
    call = {
        "filter": (cases, out, "--drop", tmp_path / "drop.jsonl"),
        "stats": (cases, "--output", out),
        "decontaminate": (cases, out, "--bench", bench_of(tmp_path)),
        "hub-package": ("--processed-dir", cases, "--subset", "x", "--split", "y",
                        "--output-dir", out, "--state", out / ".mix/hub-package"),
    }  # fmt: skip
    assert mix(verb, *call[verb]) == 0
    assert "1 PDF without a .md, as lone.PDF" in capsys.readouterr().err.replace("cases/", "")
    summary = summary_of(out, verb)
    where = "cases/" if verb == "stats" else ""
    alone = {".md without a PDF": [f"{where}d.md"]} if verb == "stats" else {}
    assert summary["found"] == 4 - len(alone)
    assert summary["beside"] == {
        **alone,
        "PDF without a .md": [f"{where}lone.PDF"],
        "with the name of another": [f"{where}a.PDF"],
    }
    if verb == "filter":
        assert summary["counts"]["done"] + summary["dropped"] == 4
        assert (out / "c.pdf").exists() and not (out / "B.pdf").exists()
    if verb == "stats":
        assert sum(summary["counts"].values()) == 3
    if verb == "hub-package":
        assert summary["facts"]["pages"] + summary["counts"]["skipped"] == 4


def bench_of(tmp_path):
    bench = tmp_path / "bench"
    make_pdf(bench / "pdfs/t.PDF", ["quite another page than those"])
    row = {"pdf": "t.PDF", "page": 1, "id": "t", "type": "present", "text": "quite"}
    (bench / "T.JSONL").write_text(json.dumps(row) + "\n")
    return bench


def test_a_bench_folder_with_capitals_is_read_by_all_of_its_readers(tmp_path):
    bench = bench_of(tmp_path)
    (bench / "claude_original").mkdir()
    (bench / "claude_original/t_page1_pg1_repeat1.MD").write_text("quite another page")
    (source,) = scan_bench(str(bench))
    assert source.reference_path is not None
    (page,) = load_folder(bench).pages
    assert [case.id for case in page.cases] == ["t"]
    (alone,) = load_folder(bench / "T.JSONL").pages
    assert alone.pdf == page.pdf


def test_the_filter_reads_the_text_of_the_page_as_it_is_drawn(tmp_path, mix):
    """Of a cropped page all of the MediaBox is drawn, so all of its text counts."""
    for crop in (None, (10, 10, 20, 20), (900, 900, 950, 950)):
        path = write_pdf(tmp_path / "in" / f"{crop}.pdf", ["a line of text"] * 3)
        if crop:
            rewrite(path, crop=crop)
        assert page_text(str(path), 1).count("a line of text") == 3, crop
        assert margin_lines(str(path)) == margin_lines(str(tmp_path / "in/None.pdf")), crop


def test_what_cannot_be_read_now_fails_and_what_never_can_is_skipped():
    assert lost(UnreadPage("a.pdf", 1, "Permission denied")) == Outcome(
        "failed", "Permission denied"
    )
    assert lost(BadPage("a.pdf", 1, "the file is empty")).status == "skipped"
    assert lost(UnreadPage("a.pdf", 1, "no such file")).status == "skipped"


def test_a_text_that_cannot_be_read_fails_its_page_and_is_tried_again(tmp_path, cases, mix):
    (cases / "a.md").unlink()
    os.symlink("a.md", cases / "a.md")
    for _ in range(2):
        assert mix("stats", cases, "--output", tmp_path / "out") == 1
        counts, said = reasons(tmp_path / "out", "stats")
        assert counts == {"done": 2, "skipped": 0, "failed": 1}
        assert "Too many levels of symbolic links" in said[0]
    (cases / "a.md").unlink()
    (cases / "a.md").write_text(HEAD + "page a\n")
    assert mix("stats", cases, "--output", tmp_path / "out") == 0
    assert reasons(tmp_path / "out", "stats")[0] == {"done": 3, "skipped": 0, "failed": 0}


def test_a_pair_whose_pdf_comes_later_is_taken_then(tmp_path, cases, mix, capsys):
    assert mix("stats", cases, "--output", tmp_path / "out") == 0
    assert ".md without a PDF, as cases/d.md" in capsys.readouterr().err
    make_pdf(cases / "d.PDF", ["page d"])
    assert mix("stats", cases, "--output", tmp_path / "out") == 0
    summary = summary_of(tmp_path / "out", "stats")
    assert summary["counts"]["done"] == summary["found"] == 4


def test_a_folder_that_cannot_be_listed_is_not_passed_over(tmp_path, cases, monkeypatch):
    closed = cases / "closed"
    closed.mkdir()
    (cases / "lost+found").mkdir()
    real = os.scandir

    def scandir(path):
        if Path(path) in (closed, cases / "lost+found"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="closed"):
        storage.list_files(cases)
    closed.rmdir()
    assert len(storage.list_files(cases)) == 9
