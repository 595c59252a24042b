"""mix rotate: pages turn, their metadata follows, their tests stay."""

import json
import os

import numpy as np
import pytest
from mix_support import killed_at, make_pdf, tree

from olmrl.data.page import load_page, scan_bench
from olmrl.data.render import render_page
from olmrl.markup import front_matter
from olmrl.mix.verbs.rotate import Bench, choose, read_bench, turned_reference

HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: {}\nrotation_correction: {}\n"
    "is_table: False\nis_diagram: True\n---"
)
UPRIGHT = HEAD.format(True, 0)
ONE = ("--workers", 1)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def bench(tmp_path):
    """Both ways of naming references, a PDF of two pages, one of capitals, one without truth."""
    root = tmp_path / "bench"
    pdfs = {"sub/a.pdf": "ab", "b_page4.pdf": "c", "C.PDF": "d", "lone.pdf": "e"}
    for name, pages in pdfs.items():
        texts = [f"{page} long line of words\nand one more line" for page in pages]
        make_pdf(root / "pdfs" / name, texts, size=(300, 200))
    truth = root / "claude_original"
    write(truth / "sub/a_page1_pg1_repeat1.md", UPRIGHT + "\nfirst page")
    write(truth / "sub/a_pg2_repeat1.md", HEAD.format(False, 270) + "\nsecond page")
    write(truth / "b_page4_pg1_repeat1.md", UPRIGHT)
    write(truth / "C.PDF_page1_pg1_repeat1.md", "no head at all")
    write(root / "some_model/lone_pg1_repeat1.md", "text")
    rows = [
        {"type": "present", "pdf": pdf, "page": page, "id": f"{pdf}{page}", "text": "x"}
        for pdf, page in (("sub/a.pdf", 1), ("sub/a.pdf", 2), ("b_page4.pdf", 1), ("C.PDF", 1))
    ]
    lines = "".join(json.dumps(row, indent=None) + "\n" for row in rows)
    write(root / "present.jsonl", "\ufeff" + lines.replace("\n", "\r\n"))
    write(root / "more.jsonl", json.dumps({**rows[0], "pdf": "lone.pdf"}) + "\n")
    return root


def nearest_turn(image, upright):
    """Quarter turns counter-clockwise after which the two look alike."""
    apart = {}
    for turns in range(4):
        turned = np.rot90(image, turns)
        if turned.shape == upright.shape:
            apart[turns] = np.abs(turned.astype(int) - upright).mean()
    return min(apart, key=apart.get)


def summary(out):
    return json.loads((out / ".mix/rotate/summary.json").read_text())


@pytest.mark.parametrize("seed", [0, 1])
def test_turned_pages_say_how_they_are_turned_back(tmp_path, mix, bench, seed):
    before = tree(bench)
    out = tmp_path / "out"
    assert mix("rotate", bench, out, "--share", 1, "--seed", seed, *ONE) == 0
    assert tree(bench) == before
    for name in ("present.jsonl", "more.jsonl"):
        assert (out / name).read_bytes() == (bench / name).read_bytes()
    assert not (out / "some_model").exists()
    angles = summary(out)["turned_clockwise"]
    assert set(angles) == {"sub/a.pdf", "b_page4.pdf", "C.PDF", "lone.pdf"}
    sources = {s.page_id: s for s in scan_bench(str(bench))}
    for made in scan_bench(str(out)):
        source = sources[made.page_id]
        old, new = load_page(source, 300), load_page(made, 300)
        turn = angles[made.page_id.rpartition("::")[0]]
        assert nearest_turn(new.image, old.image) == turn // 90
        assert made.tests == source.tests
        if "lone" in made.page_id or "C.PDF" in made.page_id:
            assert new.page.reference == old.page.reference
            continue
        was, now = (front_matter.parse(p.page.reference) for p in (old, new))
        assert now.rotation_correction == (was.rotation_correction + turn) % 360
        assert now.is_rotation_valid == (now.rotation_correction == 0)
        assert (now.natural_text, now.is_diagram) == (was.natural_text, True)


def test_a_share_is_drawn_by_seed_whatever_the_order(bench):
    found = read_bench(str(bench))
    draws = {frozenset(choose(found, 0.5, seed).items()) for seed in range(12)}
    assert len(draws) > 6 and {len(draw) for draw in draws} == {2}
    assert {degrees for draw in draws for _, degrees in draw} == {90, 180, 270}
    back = Bench(found.root, dict(reversed(found.references.items())))
    assert choose(back, 0.5, 3) == choose(found, 0.5, 3)
    assert choose(found, 0.1, 0) == {}


def test_what_is_not_turned_is_linked(tmp_path, mix, bench):
    out = tmp_path / "out"
    assert mix("rotate", bench, out, "--share", 0.5, *ONE) == 0
    turned = summary(out)["turned_clockwise"]
    assert len(turned) == 2
    for name in ("sub/a.pdf", "b_page4.pdf", "C.PDF", "lone.pdf"):
        assert os.path.islink(out / "pdfs" / name) == (name not in turned)
    assert len(scan_bench(str(out))) == 5


def test_killed_and_repeated_it_ends_in_the_same_bytes(tmp_path, mix, bench):
    command = ("rotate", bench, tmp_path / "out", "--share", 0.75, *ONE)
    for moment in (1, 3):
        assert killed_at(moment, "after", *command)
        assert not list((tmp_path / "out").glob("*.jsonl"))  # no bench folder yet
    assert mix(*command) == 0
    made = tree(tmp_path / "out")
    assert mix(*command) == 0
    assert mix("rotate", bench, tmp_path / "whole", "--share", 0.75, *ONE) == 0
    assert made == tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_what_cannot_be_turned_stays_as_it_is(tmp_path, mix, bench):
    (bench / "pdfs/lone.pdf").write_bytes(b"%PDF-1.4 damaged")
    make_pdf(bench / "pdfs/C.PDF", ["c"], encrypt="secret")
    write(bench / "claude_original/b_page4_pg1_repeat1.md", UPRIGHT.replace("is_table", "is_tabel"))
    assert mix("rotate", bench, tmp_path / "out", "--share", 1, *ONE) == 0
    told = summary(tmp_path / "out")
    reasons = {row["key"]: row["reason"] for row in told["problems"]}
    assert set(reasons) == {"lone.pdf", "C.PDF", "b_page4.pdf"}
    assert "is_tabel" in reasons["b_page4.pdf"] and "password" in reasons["C.PDF"]
    assert list(told["turned_clockwise"]) == ["sub/a.pdf"]
    made, before = tree(tmp_path / "out"), tree(bench)
    for name in ("pdfs/lone.pdf", "pdfs/C.PDF", "claude_original/b_page4_pg1_repeat1.md"):
        assert made[name] == before[name]


def test_a_turned_page_can_be_turned_upright(tmp_path):
    write(tmp_path / "x.md", HEAD.format(False, 90) + "\ntext\n")
    assert turned_reference(str(tmp_path / "x.md"), 270) == UPRIGHT + "\ntext"


def test_a_pdf_that_was_turned_before_turns_on(tmp_path, mix, bench):
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(bench / "pdfs/b_page4.pdf"))
    writer.pages[0].rotate(270)
    writer.write(bench / "pdfs/b_page4.pdf")
    assert mix("rotate", bench, tmp_path / "out", "--share", 1, *ONE) == 0
    turn = summary(tmp_path / "out")["turned_clockwise"]["b_page4.pdf"]
    old, new = (render_page(str(r / "pdfs/b_page4.pdf"), 1, 300) for r in (bench, tmp_path / "out"))
    assert nearest_turn(new, old) == turn // 90


def test_two_pdfs_with_one_reference_are_not_turned_apart(tmp_path, mix, bench, capsys):
    make_pdf(bench / "pdfs/b.pdf", ["1", "2", "3", "4"])
    for seed in range(6):
        try:
            angles = choose(read_bench(str(bench)), 0.4, seed)
        except ValueError:
            assert mix("rotate", bench, tmp_path / "out", "--share", 0.4, "--seed", seed) == 2
            assert "belongs to both b.pdf and b_page4.pdf" in capsys.readouterr().err
            break
        assert angles.get("b.pdf") == angles.get("b_page4.pdf")
    else:
        raise AssertionError("no seed turned them apart")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: (root / "more.jsonl").write_text("\n{broken\n"), "more.jsonl, line 2: not"),
        (lambda root: [p.unlink() for p in root.glob("*.jsonl")], "it has no *.jsonl file"),
        (lambda root: [p.write_text("\n") for p in root.glob("*.jsonl")], "hold no tests"),
        (lambda root: os.rename(root / "pdfs", root / "pdf"), "it has no pdfs/ folder"),
        (lambda root: os.rename(root, root.with_name("gone")), "not a bench folder"),
    ],
)
def test_what_is_no_bench_folder_is_said_in_a_sentence(tmp_path, mix, bench, capsys, spoil, said):
    spoil(bench)
    assert mix("rotate", bench, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_output_and_settings_are_checked(tmp_path, mix, bench, capsys):
    assert mix("rotate", bench, bench / "turned") == 2
    assert mix("rotate", bench, bench) == 2
    said = capsys.readouterr().err
    assert "must lie beside" in said and "is the folder that is read" in said
    assert mix("rotate", bench, tmp_path / "out", "--seed", 1) == 2
    assert "--share 0.05 of its 4 PDFs is none" in capsys.readouterr().err
    assert mix("rotate", bench, tmp_path / "out", "--share", 0.5, "--seed", 1) == 0
    assert mix("rotate", bench, tmp_path / "out", "--share", 0.5, "--seed", 2) == 2
    assert "started with seed=1, but now it is 2" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        mix("rotate", bench, tmp_path / "x", "--share", "nan")
