"""Bench folders: gathering over files, and errors that name file and line."""

import json

import pytest

from olmrl.bench import CaseError, load_folder


def write(folder, files, pdfs=("a.pdf", "sub/b.pdf")):
    for pdf in pdfs:
        path = folder / "pdfs" / pdf
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%PDF-1.4")
    for name, rows in files.items():
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test(number, pdf="a.pdf", page=1, **fields):
    row = {"type": "present", "pdf": pdf, "page": page, "id": f"t{number}", "text": "x"}
    return {**row, **fields}


test.__test__ = False


def test_tests_of_a_page_are_gathered_over_all_files(tmp_path):
    folder = load_folder(
        write(
            tmp_path,
            {
                "one.jsonl": [test(1), "", test(2, "sub/b.pdf", 2)],
                "two.jsonl": [test(1, type="absent"), test(3, "sub/b.pdf", 1)],
            },
        )
    )
    assert [(p.pdf, p.page) for p in folder.pages] == [
        ("a.pdf", 1),
        ("sub/b.pdf", 1),
        ("sub/b.pdf", 2),
    ]
    first = folder.pages[0]
    assert [case.type for case in first.cases] == ["present", "absent"]
    assert first.files == ("one.jsonl", "two.jsonl")
    assert first.pdf_path == tmp_path / "pdfs" / "a.pdf"
    assert len(folder.cases) == 4


def test_one_file_or_a_filter(tmp_path):
    write(tmp_path, {"one.jsonl": [test(1)], "two.jsonl": [test(2)]})
    assert [c.id for c in load_folder(tmp_path / "two.jsonl").cases] == ["t2"]
    assert [c.id for c in load_folder(tmp_path, files="ONE").cases] == ["t1"]
    with pytest.raises(CaseError, match=r"three.*one\.jsonl, two\.jsonl"):
        load_folder(tmp_path, files="three")
    with pytest.raises(CaseError, match="not a regular expression"):
        load_folder(tmp_path, files="(")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([test(1), "{not json"], ["bad.jsonl:2", "JSON"]),
        ([test(1), test(1)], ["bad.jsonl:2", "'t1'", "line 1"]),
        ([test(1, type="nope")], ["bad.jsonl:1", "'nope'"]),
        ([test(1, colour="red")], ["bad.jsonl:1", "'colour'"]),
        ([test(1, "missing.pdf")], ["bad.jsonl:1", "pdfs/missing.pdf", "does not exist"]),
        ([test(1), {"type": "baseline", "pdf": "a.pdf", "id": "q"}], ["bad.jsonl:2", "'page'"]),
        ([test(1, type="math", math=r"\bad")], ["bad.jsonl:1", "math"]),
    ],
)
def test_errors_name_file_and_line(tmp_path, rows, words):
    rows = [{k: v for k, v in r.items() if k != "text"} if _is_math(r) else r for r in rows]
    write(tmp_path, {"bad.jsonl": rows})
    with pytest.raises(CaseError) as caught:
        load_folder(tmp_path)
    for word in words:
        assert word in str(caught.value)


def _is_math(row):
    return isinstance(row, dict) and row["type"] == "math"


def test_invalid_tests_can_be_skipped_but_are_listed(tmp_path):
    write(tmp_path, {"a.jsonl": [test(1), "{", test(2, max_diffs=-1)]})
    folder = load_folder(tmp_path, skip_invalid=True)
    assert [case.id for case in folder.cases] == ["t1"]
    assert [message.split(": ")[0].rsplit("/", 1)[1] for message in folder.rejected] == [
        "a.jsonl:2",
        "a.jsonl:3",
    ]


def test_not_utf8(tmp_path):
    write(tmp_path, {"a.jsonl": [test(1)]})
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(b'{"id": "\xff\xfe"}\n')
    with pytest.raises(CaseError, match=r"a\.jsonl:2: not UTF-8"):
        load_folder(tmp_path)


def test_no_folder_no_pdfs_no_tests(tmp_path):
    with pytest.raises(CaseError, match="does not exist"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(CaseError, match="no folder pdfs"):
        load_folder(tmp_path)
    (tmp_path / "pdfs").mkdir()
    with pytest.raises(CaseError, match=r"no \*\.jsonl"):
        load_folder(tmp_path)
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(CaseError, match="no usable tests"):
        load_folder(tmp_path)
