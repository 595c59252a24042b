"""`mix hub-push` and the cards of data sets: counted, packaged, sent, and read back."""

import json

import pytest
import yaml
from reportlab.pdfgen.canvas import Canvas

from olmrl.mix.__main__ import main

REPO = "my-org/pages"
HEAD = (
    "---\nprimary_language: {}\nis_rotation_valid: True\nrotation_correction: 0\n"
    "is_table: False\nis_diagram: False\n---\n"
)
LABEL = "00_documents_train"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three page pairs, counted and packaged."""
    root = tmp_path_factory.mktemp("data")
    pairs = root / "pa|irs"
    pairs.mkdir()
    for number, language in enumerate(("en", "de", "en")):
        canvas = Canvas(str(pairs / f"p{number}.pdf"))
        canvas.drawString(72, 720, f"page {number}")
        canvas.save()
        text = HEAD.format(language) + f"page {number} has words"
        (pairs / f"p{number}.md").write_text(text)
    assert main(["stats", str(pairs), "--output", str(root / "stats"), "--samples", "0"]) == 0
    package(pairs, root / "set")
    return root


def package(pairs, out):
    words = ["--subset", "00_documents", "--split", "train", "--output-dir", str(out)]
    assert main(["hub-package", "--processed-dir", str(pairs), *words]) == 0


@pytest.fixture
def data(made, tmp_path):
    """A copy that a test may spoil."""
    import shutil

    shutil.copytree(made, tmp_path / "data")
    return tmp_path / "data"


def push(data, *more, repo=REPO, licence=("--licence", "odc-by")):
    stats = ["--stats", str(data / "stats")]
    return main(["hub-push", str(data / "set"), repo, *stats, *licence, *more])


def test_stats_writes_the_card_of_the_data_set(made):
    card = (made / "stats" / "card.markdown").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["language"] == ["en", "de"]
    assert head["size_categories"] == ["n<1K"]
    assert "license" not in head, "which only its owner can name"
    assert "3 document pages" in card
    assert "| pa&#124;irs | 3 |" in card
    assert "| en | 2 |" in card


def test_a_dry_run_shows_the_card_and_sends_nothing(data, hub, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert push(data, "--dry-run") == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{REPO}, a private dataset: 3 pages\n")
    assert "license: odc-by" in said and said.endswith("dry run: nothing was sent\n")
    assert hub.requests == []


def test_a_push_sends_tables_tarballs_and_card(data, hub, capsys):
    (data / "set" / "private-notes.txt").write_text("x")
    assert push(data) == 0
    repo = hub.repos[f"dataset/{REPO}"]
    assert repo.private
    assert set(repo.files) == {
        ".gitattributes", "README.md", f"{LABEL}.parquet", "pdf_chunk_manifest.jsonl",
        f"pdf_tarballs/{LABEL}_00000.tar.gz",
    }  # fmt: skip
    card = repo.files["README.md"].decode()
    assert yaml.safe_load(card.split("---\n")[1])["configs"] == [
        {
            "config_name": "00_documents",
            "data_files": [{"split": "train", "path": f"{LABEL}.parquet"}],
        }
    ]
    assert f"--dataset-path {REPO} --subset 00_documents --split train" in card
    assert str(data) not in card
    assert "stays here, as it is no part of the dataset: private-notes.txt" in (
        capsys.readouterr().out
    )
    commits = len(repo.commits)
    assert push(data) == 0
    assert len(repo.commits) == commits
    assert "0 files sent, 4 were there already" in capsys.readouterr().out


def spoil(data, what):
    state = data / "set" / ".mix" / "hub-package" / LABEL / "summary.json"
    if what == "unpackaged":
        state.unlink()
    elif what == "incomplete":
        state.write_text(json.dumps(json.loads(state.read_text()) | {"complete": False}))
    elif what == "lost tarball":
        next((data / "set" / "pdf_tarballs").glob("*.gz")).unlink()
    elif what == "lost table":
        (data / "set" / f"{LABEL}.parquet").unlink()
    elif what == "no counts":
        (data / "stats" / "stats.json").unlink()
    elif what == "other counts":
        path = data / "stats" / "stats.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"pages": 7}))
    elif what == "link":
        path = data / "set" / f"{LABEL}.parquet"
        path.rename(data / "elsewhere.parquet")
        path.symlink_to(data / "elsewhere.parquet")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("unpackaged", "no data set of `olmrl mix hub-package`"),
        ("incomplete", f"{LABEL} is not complete"),
        ("lost tarball", "is named in the data set, and is missing"),
        ("lost table", f"{LABEL}.parquet: is missing"),
        ("no counts", "has no stats.json"),
        ("other counts", "counts 7 pages, and the data set holds 3"),
        ("link", "put the file itself there"),
    ],
)
def test_what_is_not_fit_to_be_shared_is_refused_in_one_sentence(data, hub, capsys, what, message):
    spoil(data, what)
    assert push(data) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert hub.requests == []


def test_a_licence_must_be_named(data, hub, capsys):
    assert push(data, licence=()) == 2
    assert "--licence: name the one it is shared under" in capsys.readouterr().err
    assert hub.requests == []


def test_hub_package_itself_sends_nothing(data, hub, capsys):
    words = ["--subset", "a", "--split", "b", "--output-dir", f"hf://datasets/{REPO}"]
    assert main(["hub-package", "--processed-dir", str(data / "pa|irs"), *words]) == 2
    assert "nothing is written to the Hub but by" in capsys.readouterr().err
    assert hub.requests == []
