from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
from data_pdfs import pdf_bytes, write_pdf

from olmrl.data.page import load_page, scan_bench, scan_pairs
from olmrl.data.render import BadPage
from olmrl.data.validate import validate

HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
    "is_table: False\nis_diagram: False\n---\n"
)


def row(pdf: str, page: int = 1, id: str = "t1", **extra) -> dict:
    return {"pdf": pdf, "page": page, "id": id, "type": "present", "text": "hello", **extra}


def write_rows(path: Path, rows: list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    for name in ("sub/b_page2.pdf", "sub/a.pdf"):
        write_pdf(tmp_path / "pdfs" / name)
    write_rows(
        tmp_path / "math.jsonl", [row("sub/b_page2.pdf", id="m1"), row("sub/a.pdf", id="m2")]
    )
    write_rows(tmp_path / "table.jsonl", [row("sub/a.pdf", id="t1"), row("sub/a.pdf", id="t2")])
    reference = tmp_path / "claude_original" / "sub"
    reference.mkdir(parents=True)
    (reference / "a_page1_pg1_repeat1.md").write_text(HEAD + "of a", "utf-8")
    (reference / "b_page2_pg1_repeat1.md").write_text(HEAD + "of b", "utf-8")
    write_rows(reference / "not_a_category.jsonl", ["ignored, it lies below a candidate"])
    return tmp_path


def test_tests_of_a_page_are_gathered_over_all_files(bench: Path):
    first, second = scan_bench(str(bench))
    assert (first.page_id, second.page_id) == ("sub/a.pdf::1", "sub/b_page2.pdf::1")
    assert [t["id"] for t in first.tests] == ["m2", "t1", "t2"]
    assert first.test_files == ("math.jsonl", "table.jsonl", "table.jsonl")


def test_references_follow_the_public_naming(bench: Path):
    pages = {s.page_id: load_page(s, 120) for s in scan_bench(str(bench))}
    assert pages["sub/a.pdf::1"].page.reference.endswith("of a")
    assert pages["sub/b_page2.pdf::1"].page.reference.endswith("of b")
    assert pages["sub/a.pdf::1"].image.shape == (120, 80, 3)


def test_plain_reference_name_and_names_with_two_page_parts(bench: Path):
    write_pdf(bench / "pdfs" / "x_page7_page3.pdf")
    write_pdf(bench / "pdfs" / "plain.pdf")
    write_rows(bench / "more.jsonl", [row("x_page7_page3.pdf"), row("plain.pdf", id="t2")])
    (bench / "claude_original" / "x_page7_page3_pg1_repeat1.md").write_text("two parts")
    (bench / "claude_original" / "plain_pg1_repeat1.md").write_text("plain name")
    found = {s.page_id: s.reference_path for s in scan_bench(str(bench), "^MORE")}
    assert Path(found["x_page7_page3.pdf::1"]).read_text() == "two parts"
    assert Path(found["plain.pdf::1"]).read_text() == "plain name"


def test_relative_and_symlinked_folders(bench: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(bench.parent)
    assert len(scan_bench(bench.name)) == 2
    assert scan_bench(bench.name + "/")[0].reference_path is not None


def test_file_pattern_is_a_case_insensitive_search(bench: Path):
    assert [len(s.tests) for s in scan_bench(str(bench), "TAB")] == [2]
    with pytest.raises(ValueError, match=r"math\.jsonl, table\.jsonl"):
        scan_bench(str(bench), "nothing")
    with pytest.raises(ValueError, match="file pattern"):
        scan_bench(str(bench), "(")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "not valid JSON"),
        ("[1]", "expected a JSON object, found list"),
        (json.dumps({"pdf": "", "page": 1, "id": "x"}), "'pdf' is ''"),
        (json.dumps({"pdf": "../../etc/passwd", "page": 1, "id": "x"}), "must stay below pdfs/"),
        (json.dumps({"pdf": "a.pdf", "id": "x"}), "'page' is None"),
        (json.dumps({"pdf": "a.pdf", "page": 0, "id": "x"}), "'page' is 0"),
        (json.dumps({"pdf": "a.pdf", "page": True, "id": "x"}), "'page' is True"),
        (json.dumps({"pdf": "a.pdf", "page": 1}), "'id' is None"),
        (json.dumps(row("sub/a.pdf", id="m1")), "'m1' occurs twice"),
    ],
)
def test_malformed_lines_are_named(bench: Path, line: str, message: str):
    with (bench / "math.jsonl").open("a") as stream:
        stream.write("\n" + line + "\n")
    with pytest.raises(ValueError, match=r"math\.jsonl, line 4: ") as caught:
        scan_bench(str(bench))
    assert message in str(caught.value)


def test_page_numbers_written_as_text_are_numbers(bench: Path):
    write_rows(bench / "math.jsonl", [row("sub/a.pdf", page="1")])
    assert scan_bench(str(bench), "math")[0].page_number == 1


def test_folders_that_are_no_bench(tmp_path: Path):
    with pytest.raises(ValueError, match="no pdfs/ folder"):
        scan_bench(str(tmp_path))
    (tmp_path / "pdfs").mkdir()
    with pytest.raises(ValueError, match=r"no \*\.jsonl file"):
        scan_bench(str(tmp_path))
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="hold no tests"):
        scan_bench(str(tmp_path))


def test_missing_pdf_and_unreadable_reference_are_bad_pages(bench: Path):
    write_rows(bench / "gone.jsonl", [row("gone.pdf")])
    (missing,) = scan_bench(str(bench), "gone")
    with pytest.raises(BadPage, match="no such file"):
        load_page(missing, 100)
    (bench / "claude_original" / "sub" / "a_page1_pg1_repeat1.md").write_bytes(b"caf\xe9")
    with pytest.raises(BadPage, match="not UTF-8"):
        load_page(scan_bench(str(bench), "math")[0], 100)


def test_sources_are_light_to_ship(bench: Path):
    sources = scan_bench(str(bench))
    assert pickle.loads(pickle.dumps(sources)) == sources


def test_pairs_are_found_recursively_through_links(tmp_path: Path):
    real = tmp_path / "elsewhere"
    write_pdf(real / "scan.pdf")
    root = tmp_path / "set"
    for name in ("b/two", "a/one"):
        write_pdf(root / f"{name}.pdf")
        (root / f"{name}.md").write_text(HEAD)
    (root / "c").mkdir()
    (root / "c" / "three.pdf").symlink_to(real / "scan.pdf")
    (root / "c" / "three.md").write_text(HEAD)
    (root / "d").symlink_to(root / "a", target_is_directory=True)
    (root / "README.md").write_text("no pair")
    scan = scan_pairs(str(root))
    assert [s.page_id for s in scan.sources] == [
        "a/one.pdf::1",
        "b/two.pdf::1",
        "c/three.pdf::1",
        "d/one.pdf::1",
    ]
    assert [Path(p).name for p in scan.orphans] == ["README.md"]
    assert load_page(scan.sources[2], 90).image.shape == (90, 60, 3)


def test_folder_without_pairs_says_what_it_holds(tmp_path: Path):
    write_pdf(tmp_path / "a.pdf")
    (tmp_path / "b.md").write_text("x")
    with pytest.raises(ValueError, match=r"holds 1 \.pdf and 1 \.md files"):
        scan_pairs(str(tmp_path))
    with pytest.raises(ValueError, match="no such folder"):
        scan_pairs(str(tmp_path / "missing"))


def test_every_file_of_a_folder_is_counted_once(tmp_path: Path):
    for name in ("a.pdf", "B.PDF", "c.pdf", "c.PDF", "lone.PDF"):
        write_pdf(tmp_path / name)
    for name in ("a.md", "a.MD", "B.md", "c.MD", "README.md"):
        (tmp_path / name).write_text(HEAD)
    scan = scan_pairs(str(tmp_path))
    assert [s.page_id for s in scan.sources] == ["B.PDF::1", "a.pdf::1", "c.pdf::1"]
    assert [Path(s.reference_path).name for s in scan.sources] == ["B.md", "a.md", "c.MD"]
    assert [Path(p).name for p in scan.orphans] == ["README.md", "a.MD"]
    assert [Path(p).name for p in scan.lone_pdfs] == ["c.PDF", "lone.PDF"]


WINDOWS = b"\xef\xbb\xbf" + HEAD.replace("\n", "\r\n").encode()


@pytest.mark.parametrize("data", [WINDOWS, HEAD.encode("utf-16")])
def test_references_written_on_windows_are_read(tmp_path: Path, data: bytes):
    write_pdf(tmp_path / "a.pdf")
    (tmp_path / "a.md").write_bytes(data)
    [source] = scan_pairs(str(tmp_path)).sources
    assert load_page(source, 60).page.reference == HEAD


def test_a_name_of_any_bytes_is_a_bad_page_and_no_end(tmp_path: Path):
    """As in folders of before UTF-8; the verdict is remembered like any other."""
    root, cache = tmp_path / "in", tmp_path / "cache"
    root.mkdir()
    for name in (b"good", b"caf\xe9", b"x::y"):
        for suffix, data in ((b".pdf", pdf_bytes(["a"], (200, 300))), (b".md", HEAD.encode())):
            with open(os.path.join(os.fsencode(root), name + suffix), "wb") as stream:
                stream.write(data)
    sources = scan_pairs(str(root)).sources
    for opened in (3, 0):
        found = validate(sources, str(cache), lambda work, items: map(work, items))
        assert [bad.reason for bad in found.bad] == [
            "its name is not UTF-8 text, or has a zero byte"
        ]
        assert found.opened == opened
