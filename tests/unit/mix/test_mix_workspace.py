"""workspace: pipeline results to page pairs; tarball sources, blank and fallback pages."""

import hashlib
import json
import tarfile

import pytest
from mix_support import killed_at, make_pdf, tree

from olmrl.markup import front_matter


def document(source, pages, fallback=0, **attributes):
    """A Dolma document as the pipeline writes it; a page is its text or None."""
    text, spans = "", []
    for number, page in enumerate(pages, start=1):
        start = len(text)
        if page is not None:
            text += page + ("\n" if number < len(pages) else "")
        spans.append([start, len(text), number])
    defaults = {
        "primary_language": ["en" if page else None for page in pages],
        "is_rotation_valid": [True] * len(pages),
        "rotation_correction": [0] * len(pages),
        "is_table": [False] * len(pages),
        "is_diagram": [False] * len(pages),
    }
    return {
        "id": hashlib.sha1(text.encode()).hexdigest(),
        "text": text,
        "metadata": {"Source-File": str(source), "total-fallback-pages": fallback},
        "attributes": {"pdf_page_numbers": spans, **defaults, **attributes},
    }


@pytest.fixture
def workspace(tmp_path):
    make_pdf(tmp_path / "ws/three.pdf", ["one", "two", "three"])
    make_pdf(tmp_path / "outside/member.pdf", ["in a tarball", "second"])
    with tarfile.open(tmp_path / "ws/box.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "outside/member.pdf", "deep/member.pdf")
    (tmp_path / "ws/results").mkdir()

    def write(*documents):
        lines = [d if isinstance(d, str) else json.dumps(d) for d in documents]
        (tmp_path / "ws/results/output_1.jsonl").write_text("\n".join(lines) + "\n")
        return tmp_path / "ws"

    return write


def reasons(out):
    summary = json.loads((out / ".mix/workspace/summary.json").read_text())
    return {row["key"]: row["reason"] for row in summary["problems"]}


def test_pages_come_back_with_their_own_attributes(tmp_path, mix, workspace):
    one = document("three.pdf", ["First page", None, "Third"], rotation_correction=[0, 0, 90])
    two = document("box.tar.gz::deep/member.pdf", ["Boxed", "More"])
    assert mix("workspace", workspace(one, two), tmp_path / "out") == 0
    folder = tmp_path / "out" / one["id"][:4]
    texts = [(folder / f"{one['id']}_page{n}.md").read_text() for n in (1, 2, 3)]
    assert front_matter.parse(texts[0]).natural_text == "First page"
    assert texts[1].startswith("---\nprimary_language: null\n") and texts[1].endswith("\n---")
    assert front_matter.parse(texts[2]).rotation_correction == 90
    assert (folder / f"{one['id']}_page2.pdf").exists()
    assert (tmp_path / "out" / two["id"][:4] / f"{two['id']}_page2.pdf").exists()


def test_fallback_pages_are_left_out(tmp_path, mix, workspace):
    doc = document("three.pdf", ["good", "plain text", "good too"], fallback=1)
    doc["attributes"]["primary_language"][1] = None
    assert mix("workspace", workspace(doc), tmp_path / "out") == 0
    assert len([n for n in tree(tmp_path / "out") if n.endswith(".md")]) == 2
    assert mix("workspace", tmp_path / "ws", tmp_path / "all", "--keep-fallback") == 0
    assert len([n for n in tree(tmp_path / "all") if n.endswith(".md")]) == 3


def test_unusable_documents_are_listed(tmp_path, mix, workspace):
    span = document("three.pdf", ["x"], pdf_page_numbers=[[0, 99, 1]])
    far = document("three.pdf", ["a", "b", "c", "d"])
    escape = document("box.tar.gz::../../etc/passwd.pdf", ["e"])
    rotated = document("three.pdf", ["r"], rotation_correction=[45])
    gone = document("nowhere.pdf", ["g"])
    ws = workspace("{broken", span, far, escape, rotated, '{"text": 5}', gone)
    assert mix("workspace", ws, tmp_path / "out") == 1
    found = reasons(tmp_path / "out")
    assert [key.split(":")[1] for key in sorted(found)] == list("1234567")
    for line, text in enumerate(
        ("not valid JSON", "the text has 1 ch", "out of range", "leave the output", "45", "no text",
         "nowhere.pdf is missing"), start=1,
    ):  # fmt: skip
        assert text in found[f"results/output_1.jsonl:{line}"]
    assert tree(tmp_path / "out") == {}


def test_a_killed_harvest_goes_on(tmp_path, mix, workspace):
    ws = workspace(document("three.pdf", ["a", "b", "c"]), document("three.pdf", ["d"]))
    assert mix("workspace", ws, tmp_path / "whole") == 0
    assert killed_at(3, "after", "workspace", ws, tmp_path / "killed")
    assert mix("workspace", ws, tmp_path / "killed") == 0
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
