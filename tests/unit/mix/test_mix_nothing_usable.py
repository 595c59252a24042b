"""A folder that holds nothing of use is said to be so, by every verb, with an exit code."""

import json
import shutil

import pytest
from mix_support import make_pdf

HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
    "is_table: False\nis_diagram: False\n---\n"
)
VERBS = {
    "render": lambda src, out: ("render", src, out),
    "sample": lambda src, out: ("sample", src, out),
    "openai-build": lambda src, out: ("openai-build", src, out),
    "openai-collect": lambda src, out: ("openai-collect", src, src, out),
    "openai-run": lambda src, out: ("openai-run", src, out, "--base-url", "http://127.0.0.1:9/v1"),
    "clean": lambda src, out: ("clean", src, out, "--base-url", "http://127.0.0.1:9/v1"),
    "loc": lambda src, out: ("loc", "--input-dir", src, "--output-dir", out),
    "nara": lambda src, out: ("nara", "--input-dir", src, "--output-dir", out),
    "hub-package": lambda src, out: (
        "hub-package", "--processed-dir", src, "--subset", "s", "--split", "train",
        "--output-dir", out,
    ),
    "workspace": lambda src, out: ("workspace", src, out),
    "decontaminate": lambda src, out: ("decontaminate", src, out, "--bench", src.parent / "bench"),
    "stats": lambda src, out: ("stats", src, "--output", out),
    "review": lambda src, out: ("review", src, out, "--report"),
    "review-tests": lambda src, out: ("review-tests", src, out),
    "rotate": lambda src, out: ("rotate", src, out, "--share", 1),
    "filter": lambda src, out: ("filter", src, out, "--drop", src.parent / "drop.jsonl"),
}  # fmt: skip


@pytest.fixture
def around(tmp_path):
    """A bench folder and a list of ids to drop, which are in order."""
    make_pdf(tmp_path / "bench/pdfs/one.pdf", ["some words"])
    (tmp_path / "bench/a.jsonl").write_text(json.dumps({"pdf": "one.pdf", "page": 1}) + "\n")
    (tmp_path / "drop.jsonl").write_text(json.dumps({"id": "a"}) + "\n")
    return tmp_path


@pytest.mark.parametrize("verb", VERBS)
def test_an_empty_folder(around, mix, api_key, capsys, verb):
    (around / "src").mkdir()
    assert mix(*VERBS[verb](around / "src", around / "out")) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"python -m olmrl.mix {verb}: {around / 'src'}")


def bad_pairs(folder):
    (folder / "a.md").write_text("---\nno front matter")
    (folder / "a.pdf").write_text("no PDF")


def bad_documents(folder):
    (folder / "results").mkdir()
    (folder / "results/x.jsonl").write_text('{"a": 1}\n')


def bad_rows(folder):
    (folder / "a.csv").write_text("Asset,AssetStatus,DownloadUrl,Transcription\nx,open,u,t\n")
    (folder / "a.jsonl").write_text("[]\n")


def bad_bench(folder):
    shutil.copytree(folder.parent / "bench", folder, dirs_exist_ok=True)
    test = {"pdf": "one.pdf", "page": 1, "id": "t", "type": "present", "text": "words"}
    (folder / "a.jsonl").write_text(json.dumps(test) + "\n")
    (folder / "pdfs/one.pdf").write_text("no PDF")


def dropped(folder):
    (folder / "a.md").write_text(HEAD)


@pytest.mark.parametrize(
    ("verb", "spoil", "said"),
    [
        ("render", bad_pairs, "no usable page (*.pdf) in it; the first of 1: not a PDF"),
        ("sample", bad_pairs, "no usable PDF in it; the first of 1: not a PDF"),
        ("openai-build", bad_pairs, "no usable PDF (*.pdf) in it; the first of 1: not a PDF"),
        ("openai-collect", bad_rows, "no usable answer (*.jsonl, *.json) in it"),
        ("clean", bad_pairs, "no usable page pair (*.md, *.pdf) in it; the first of 1"),
        ("stats", bad_pairs, "no usable page pair (*.md, *.pdf) in it; the first of 1: front"),
        ("hub-package", bad_pairs, "no usable page pair (*.md, *.pdf) in it; the first of 1"),
        ("workspace", bad_documents, "no usable page (documents in *.jsonl) in it; the first"),
        ("loc", bad_rows, "no usable transcript in it; the first of 1: AssetStatus is 'open'"),
        ("nara", bad_rows, "no usable transcript in it; the first of 1: not a catalog record"),
        ("rotate", bad_bench, "no usable PDF (of the 1 drawn to be turned) in it; the first"),
        ("review-tests", bad_bench, "no usable PDF in pdfs/; the first:"),
        ("review", dropped, "none of its page pairs has a PDF beside it"),
        ("filter", dropped, "each of its 1 page pairs is to be dropped"),
    ],
)
def test_a_folder_of_which_nothing_can_be_used(around, mix, api_key, capsys, verb, spoil, said):
    (around / "src").mkdir()
    spoil(around / "src")
    assert mix(*VERBS[verb](around / "src", around / "out")) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert str(around / "src") in last and said in last


def test_a_bench_whose_pdfs_cannot_be_read_cannot_be_compared_with(around, mix, capsys):
    (around / "src").mkdir()
    (around / "src/a.md").write_text(HEAD + "text")
    (around / "bench/pdfs/one.pdf").write_text("no PDF")
    command = ("decontaminate", around / "src", around / "out", "--bench", around / "bench")
    assert mix(*command) == 2
    assert f"{around / 'bench'}: no usable PDF in it" in capsys.readouterr().err
    (around / "bench/claude_original").mkdir()
    (around / "bench/claude_original/one_pg1_repeat1.md").write_text(HEAD + "other")
    assert mix(*command) == 0
    assert "1 bench PDFs without readable text" in capsys.readouterr().err


def test_folders_of_one_name_are_not_counted_as_one(around, mix, capsys):
    roots = [around / part / "train" for part in "ab"]
    for root in roots:
        make_pdf(root / "a.pdf")
        (root / "a.md").write_text(HEAD + "text")
    assert mix("stats", *roots, "--output", around / "out") == 2
    assert "both would be counted as 'train'; rename one" in capsys.readouterr().err
