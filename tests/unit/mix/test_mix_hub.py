"""hub-prepare and hub-package: both layouts, byte-exact round trips, hostile tarballs, kill -9."""

import io
import json
import os
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import HubServer
from mix_support import killed_at, make_pdf, start, tree

from olmrl.markup import front_matter

HEAD = "---\nprimary_language: {}\nis_rotation_valid: True\nrotation_correction: {}\nis_table: False\nis_diagram: False\n---"  # noqa: E501


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pairs as they really occur: canonical, blank, old "None", extra keys, other spacing."""
    folder = tmp_path_factory.mktemp("pairs")
    texts = {
        "ab12/plain-3": HEAD.format("en", 0) + "\nSome text\n\nwith $x$ and ü.",
        "ab12/blank-4": HEAD.format("null", 0),
        "ab12/old-none": HEAD.format("None", 90) + "\nText",
        "cd/deep/er/extra-7": HEAD.format("de", 0).replace("---\np", "---\npage_number: 12\np")
        + "\nMehr",
        "top": HEAD.format("en", 180) + "\n\n  spaced text \n\n",
    }
    for name, text in texts.items():
        make_pdf(folder / f"{name}.pdf", [name] * 1)
        (folder / f"{name}.md").write_text(text)
    urls = [{"id": "ab12/plain-3", "url": "s3://x/1.pdf"}, {"id": "top", "url": "http://y/2.pdf"}]
    (folder / "urls.jsonl").write_text("".join(json.dumps(row) + "\n" for row in urls))
    return folder


def package(pairs, out):
    return (
        "hub-package", "--processed-dir", pairs, "--subset", "00_documents", "--split", "train",
        "--output-dir", out, "--max-tar-size-bytes", 6000,
    )  # fmt: skip


def prepare(data, out):
    return (
        "hub-prepare", "--dataset-path", data, "--subset", "00_documents", "--split", "train",
        "--destination", out, "--workers", 1,
    )  # fmt: skip


def test_package_then_prepare_gives_every_byte_back(tmp_path, mix, pairs):
    assert mix(*package(pairs, tmp_path / "data")) == 0
    assert mix(*prepare(tmp_path / "data", tmp_path / "out")) == 0
    got = tree(tmp_path / "out/processed_00_documents_train")
    assert json.loads(got.pop("extras.jsonl"))["extras"] == {"page_number": 12}
    assert got == tree(pairs)
    # and again, from what was prepared: the data set itself is the same
    assert mix(*package(tmp_path / "out/processed_00_documents_train", tmp_path / "again")) == 0
    assert tree(tmp_path / "again") == tree(tmp_path / "data")


def test_the_data_set_has_the_published_shape(tmp_path, mix, pairs):
    assert mix(*package(pairs, tmp_path / "data")) == 0
    table = pq.read_table(tmp_path / "data/00_documents_train.parquet").to_pylist()
    rows = {row["id"]: row for row in table}
    assert [row["id"] for row in table] == sorted(rows)
    assert (
        rows["ab12/plain-3"]["page_number"] == 3 and rows["ab12/plain-3"]["url"] == "s3://x/1.pdf"
    )
    assert rows["cd/deep/er/extra-7"]["page_number"] == 12
    assert json.loads(rows["cd/deep/er/extra-7"]["extras"]) == {"page_number": 12}
    assert rows["ab12/blank-4"]["natural_text"] is None
    assert rows["ab12/old-none"]["primary_language"] is None
    tarballs = sorted((tmp_path / "data/pdf_tarballs").glob("*.tar.gz"))
    assert len(tarballs) > 1 and tarballs[0].name == "00_documents_train_00000.tar.gz"
    place, name = rows["top"]["pdf_relpath"].split(":")
    with tarfile.open(tmp_path / "data" / place) as archive:
        assert archive.extractfile(name).read() == (pairs / "top.pdf").read_bytes()
    manifest = (tmp_path / "data/pdf_chunk_manifest.jsonl").read_text().splitlines()
    assert {json.loads(line)["doc_id"] for line in manifest} == set(rows)


def test_unusable_pairs_are_listed_or_stop_a_strict_run(tmp_path, mix, pairs, capsys):
    (tmp_path / "in").mkdir()
    for name in ("no_pdf", "no_head", "not_text"):
        (tmp_path / f"in/{name}.md").write_text(HEAD.format("en", 0) + "\nx")
    make_pdf(tmp_path / "in/no_head.pdf")
    (tmp_path / "in/no_head.md").write_text("just text")
    make_pdf(tmp_path / "in/not_text.pdf")
    (tmp_path / "in/not_text.md").write_bytes(b"\xff\xfe")
    (tmp_path / "in/good.md").write_text(HEAD.format("en", 0) + "\nx")
    make_pdf(tmp_path / "in/good.pdf")
    assert mix(*package(tmp_path / "in", tmp_path / "strict"), "--strict") == 2
    assert "no_head.md: front matter is missing" in capsys.readouterr().err
    assert mix(*package(tmp_path / "in", tmp_path / "data")) == 0
    state = tmp_path / "data/.mix/hub-package/00_documents_train/summary.json"
    assert {row["key"] for row in json.loads(state.read_text())["problems"]} == {
        "no_pdf", "no_head", "not_text",
    }  # fmt: skip


def test_layout_0225_json_column_and_split_ids(tmp_path, mix):
    ids = ["abcd1234-1", "abcd5678-2", "abc", "beefmissing-1"]
    response = {
        "primary_language": None, "is_rotation_valid": "true", "rotation_correction": 45,
        "is_table": 1, "is_diagram": False, "natural_text": "  ",
    }  # fmt: skip
    rows = [json.dumps({**response, "natural_text": "text"}), json.dumps(response), "{}", "{}"]
    table = pa.table(
        {"url": ["http://a", None, None, None], "response": rows, "__index_level_0__": ids}
    )
    (tmp_path / "data/pdf_tarballs").mkdir(parents=True)
    pq.write_table(table, tmp_path / "data/eval-s2pdf.parquet")
    pdf = make_pdf(tmp_path / "x.pdf").read_bytes()
    with tarfile.open(tmp_path / "data/pdf_tarballs/part0.tar.gz", "w:gz") as archive:
        for name in ids[:3]:
            info = tarfile.TarInfo(f"{name}.pdf")
            info.size = len(pdf)
            archive.addfile(info, io.BytesIO(pdf))
    command = ("--dataset-path", tmp_path / "data", "--split", "eval_s2pdf")
    assert mix("hub-prepare", *command, "--destination", tmp_path / "out") == 0
    out = tmp_path / "out/processed_eval_s2pdf"
    assert set(tree(out)) == {
        "abcd/1234-1.md", "abcd/1234-1.pdf", "abcd/5678-2.md", "abcd/5678-2.pdf", "urls.jsonl",
    }  # fmt: skip
    page = front_matter.parse((out / "abcd/1234-1.md").read_text())
    assert (page.primary_language, page.rotation_correction, page.is_table) == (None, 0, True)
    assert (out / "abcd/5678-2.md").read_text().endswith("\n---")
    skipped = (tmp_path / "out/.mix/hub-prepare/eval_s2pdf/rows_skipped.txt").read_text()
    assert "4 characters or fewer" in skipped
    assert "beefmissing-1: its PDF is in none of the tarballs" in skipped


def test_links_and_escapes_in_a_tarball_are_refused(tmp_path, mix, pairs):
    mix(*package(pairs, tmp_path / "data"))
    evil = tmp_path / "data/pdf_tarballs/00_documents_train_00099.tar.gz"
    with tarfile.open(evil, "w:gz") as archive:
        for name in ("../../../escaped.pdf", str(tmp_path / "absolute.pdf"), "fine.txt", "ok.pdf"):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"%PDF"))
        link = tarfile.TarInfo("link.pdf")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        through = tarfile.TarInfo("link.pdf/../../up.pdf")
        archive.addfile(through)
        device = tarfile.TarInfo("device.pdf")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
    (tmp_path / "data/pdf_tarballs/00_documents_train_00098.tar.gz").write_bytes(b"\x1f\x8bbroken")
    assert mix(*prepare(tmp_path / "data", tmp_path / "out")) == 1
    assert not (tmp_path / "absolute.pdf").exists()
    everything = [name for _, _, names in os.walk(tmp_path) for name in names]
    assert not {"escaped.pdf", "up.pdf", "link.pdf", "device.pdf", "fine.txt"} & set(everything)
    summary = (tmp_path / "out/.mix/hub-prepare/00_documents_train/summary.json").read_text()
    assert json.loads(summary)["facts"]["members_refused"] == 6
    assert "broken tarball" in summary
    assert (tmp_path / "out/processed_00_documents_train/top.md").exists()


def test_the_prepared_tree_can_be_moved(tmp_path, mix, pairs, monkeypatch):
    mix(*package(pairs, tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    assert mix(*prepare("data", "out")) == 0
    (tmp_path / "out").rename(tmp_path / "moved")
    moved = tmp_path / "moved/processed_00_documents_train/ab12/plain-3.pdf"
    assert moved.is_symlink() and moved.read_bytes() == (pairs / "ab12/plain-3.pdf").read_bytes()


def test_killed_package_and_prepare_go_on_to_the_same_files(tmp_path, mix, pairs):
    mix(*package(pairs, tmp_path / "data"))
    for moment in (1, 3):
        command = package(pairs, tmp_path / f"data{moment}")
        assert killed_at(moment, "after", *command)
        assert mix(*command) == 0
        assert tree(tmp_path / f"data{moment}") == tree(tmp_path / "data")
    mix(*prepare(tmp_path / "data", tmp_path / "out"))
    command = prepare(tmp_path / "data", tmp_path / "killed")
    assert killed_at(0, "before", *command)
    assert mix(*command) == 0
    assert tree(tmp_path / "killed") == tree(tmp_path / "out")


def test_wrong_arguments_are_one_sentence(tmp_path, mix, capsys):
    (tmp_path / "x").mkdir()
    for arguments, expected in (
        (("--dataset-path", "/nowhere", "--split", "train"), "neither a local folder nor a hub id"),
        (("--dataset-path", tmp_path / "x", "--split", "train"), "--subset is missing"),
        (
            ("--dataset-path", tmp_path / "x", "--subset", "s", "--split", "t"),
            "does not contain s_t.parquet",
        ),
    ):
        assert mix("hub-prepare", *arguments, "--destination", tmp_path / expected[:3]) == 2
        assert expected in capsys.readouterr().err
    (tmp_path / "x/s_t.parquet").write_bytes(b"not parquet")
    arguments = ("--dataset-path", tmp_path / "x", "--subset", "s", "--split", "t")
    assert mix("hub-prepare", *arguments, "--destination", tmp_path / "out") == 2
    assert "not a readable parquet file" in capsys.readouterr().err


def test_a_subset_is_downloaded_from_the_hub_once(tmp_path, mix, pairs):
    """The hub's address is read when its library is imported, so the verb runs as a process."""
    mix(*package(pairs, tmp_path / "data"))
    (tmp_path / "data/00_documents_eval.parquet").write_bytes(b"not wanted")
    with HubServer("someone/mix-1025", tmp_path / "data") as server:
        environment = {"HF_ENDPOINT": server.url, "HF_HUB_DISABLE_XET": "1"}
        environment |= {"HF_HUB_OFFLINE": "0", "HF_TOKEN": "none"}
        command = prepare("someone/mix-1025", tmp_path / "out")
        for _ in range(2):
            process = start(*command, **environment)
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
        assert set(server.sent.values()) <= {0, 1}
        assert server.sent["00_documents_eval.parquet"] == 0
        process = start(*prepare("someone/else", tmp_path / "no"), **environment)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 2
        assert "someone/else: no such data set on the hub" in errors
    got = tree(tmp_path / "out/processed_00_documents_train")
    got.pop("extras.jsonl")
    assert got == tree(pairs)
