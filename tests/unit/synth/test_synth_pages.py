import json
import random
from dataclasses import replace
from itertools import pairwise

import pypdfium2
import pytest

from olmrl.bench import load_case
from olmrl.markup import front_matter
from olmrl.synth.__main__ import main
from olmrl.synth.invented.labels import LOOP, RATES, Habits, draw_habits, write_label
from olmrl.synth.invented.sheet import STYLES, Sheet, draw, invent
from olmrl.synth.invented.truth import FILES, make_tests
from olmrl.synth.pages import write_data_set

SHEET = Sheet(
    running_head="annals of trade",
    footer="page 7 of 40",
    heading=("moon", "lake"),
    lines=(("bird", "fish"), ("wind", "rain")),
    left=(("fire", "gold"), ("road", "hill")),
    right=(("corn", "milk"), ("salt", "lamp")),
    table=(("ship", "sail"), ("rope", "wood")),
    bold="fish",
    footnote=("iron", "bell"),
)
HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
    "is_table: True\nis_diagram: False\n---\n"
)


def read_all(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    return write_data_set(tmp_path_factory.mktemp("pages"), train=30, heldout=10, sft=40, seed=5)


def test_the_truth_of_a_sheet():
    assert write_label(SHEET) == HEAD + (
        "# moon lake\n\n"
        "bird **fish**\nwind rain[^1]\n\n"
        "fire gold\nroad hill\n\n"
        "corn milk\nsalt lamp\n\n"
        "<table><tr><th>ship</th><th>sail</th></tr><tr><td>rope</td><td>wood</td></tr></table>\n\n"
        "[^1]: iron bell"
    )


def test_each_habit_makes_its_own_mistake():
    habits = Habits(
        keeps_running_text=True, markdown_tables=True, loses_marks=True, reads_across=True
    )
    assert write_label(SHEET, habits) == HEAD + (
        "annals of trade\n\n"
        "moon lake\n\n"
        "bird fish\nwind rain\n\n"
        "fire gold corn milk\nroad hill salt lamp\n\n"
        "| ship | sail |\n|---|---|\n| rope | wood |\n\n"
        "1 iron bell\n\n"
        "page 7 of 40"
    )
    endless = write_label(SHEET, Habits(endless=True))
    assert endless == write_label(SHEET) + " bell" * LOOP


def test_habits_come_at_their_rates_and_wrong_ones_are_refused():
    rng = random.Random(0)
    drawn = [draw_habits(rng, RATES) for _ in range(2000)]
    for name, rate in RATES.items():
        share = sum(getattr(habits, name) for habits in drawn) / len(drawn)
        assert abs(share - rate) < 0.05
    assert draw_habits(rng, {}) == Habits()
    with pytest.raises(ValueError, match="'sloppy' is unknown"):
        draw_habits(rng, {"sloppy": 0.5})
    with pytest.raises(ValueError, match="endless: rate is 2, must be in 0"):
        draw_habits(rng, {"endless": 2})


def test_tests_state_the_truth_of_a_sheet():
    rows = make_tests(SHEET, "synth/a.pdf", random.Random(0))
    by_type = {}
    for row in rows:
        by_type.setdefault(row["type"], []).append(row)
        assert (row["pdf"], row["page"]) == ("synth/a.pdf", 1)
    assert set(by_type) == set(FILES)
    assert len({row["id"] for row in rows}) == len(rows)
    assert [row["text"] for row in by_type["absent"]] == ["annals of trade", "page 7 of 40"]
    assert all(row["ignore_markdown_tables"] for row in by_type["table"])
    assert {(r["text"], r["format"]) for r in by_type["format"]} == {
        ("moon lake", "heading"),
        ("fish", "bold"),
    }
    truth = write_label(SHEET)
    for row in by_type["order"]:
        assert truth.index(row["before"]) < truth.index(row["after"])


@pytest.mark.parametrize("difficulty", sorted(STYLES))
def test_words_of_a_page_differ_and_stand_in_its_pdf(difficulty):
    style = STYLES[difficulty]
    for seed in range(25):
        rng = random.Random(seed)
        sheet = invent(rng, style)
        words = [word for word in sheet.words if not word.isdigit()]
        assert len(words) == len(set(words))
        pdf = draw(sheet, style, rng)
        with pypdfium2.PdfDocument(pdf) as document:
            assert len(document) == 1
            page = document[0]
            assert page.get_size() == (style.width, style.height)
            text = page.get_textpage().get_text_range()
            drawn = [page.get_textpage().get_text_bounded(0, 0, style.width, style.height)]
        for word in sheet.words:
            assert word in text
        for furniture in (sheet.running_head, sheet.footer):
            assert furniture is None or furniture in text
        assert drawn[0].strip()


@pytest.mark.parametrize(
    ("block", "passages"),
    [
        ((), []),
        ((("a", "b"),), ["a b"]),
        ((("a", "b", "c"), ("d", "e", "f")), ["a b c", "d e f"]),
        ((("a", "b"), ("c", "d")), ["a b c d"]),
        ((("a", "b", "c"), ("d", "e")), ["a b c d e"]),
        ((("a", "b"), ("c", "d"), ("e", "f")), ["a b c d e f"]),
        ((("a", "b"), ("c", "d"), ("e", "f", "g")), ["a b c d", "e f g"]),
    ],
)
def test_whole_lines_are_joined_until_they_are_long_enough(block, passages):
    sheet = replace(SHEET, lines=block, left=(), right=(), footnote=(), heading=())
    rows = make_tests(sheet, "a.pdf", random.Random(0), whole_lines=True)
    assert [row["text"] for row in rows if row["type"] == "present"] == passages
    order = [(row["before"], row["after"]) for row in rows if row["type"] == "order"]
    assert order == [(" ".join(a), " ".join(b)) for a, b in pairwise(block)]


def test_whole_lines_leave_no_word_of_the_text_out():
    for seed in range(40):
        sheet = invent(random.Random(seed), STYLES[3])
        rows = make_tests(sheet, "a.pdf", random.Random(0), whole_lines=True)
        asked = " ".join(row["text"] for row in rows if row["type"] == "present").split()
        assert asked == [w for line in (*sheet.lines, *sheet.left, *sheet.right) for w in line]


def failures(sheet, habits, seed=0, compat=False, whole_lines=False):
    """Types of the unit tests that a transcription with these habits fails."""
    body = front_matter.strip(write_label(sheet, habits))
    rows = make_tests(sheet, "a.pdf", random.Random(seed), whole_lines=whole_lines)
    cases = [load_case(row, compat=compat) for row in rows]
    return {case.type for case in cases if not case.run(body).passed}


@pytest.mark.parametrize("whole_lines", [False, True])
@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("difficulty", sorted(STYLES))
def test_the_truth_passes_every_test(difficulty, compat, whole_lines):
    for seed in range(40):
        sheet = invent(random.Random(seed), STYLES[difficulty])
        assert failures(sheet, Habits(), seed, compat, whole_lines) == set()


@pytest.mark.parametrize(
    ("habit", "failed"),
    [
        ("keeps_running_text", {"absent"}),
        ("markdown_tables", {"table"}),
        ("loses_marks", {"format", "footnote"}),
        ("reads_across", {"order"}),
        ("endless", {"baseline"}),
    ],
)
def test_each_habit_fails_the_tests_that_are_there_to_settle_it(habit, failed):
    assert failures(SHEET, Habits(**{habit: True})) == failed
    # a passage of a column is not one where columns are read across
    torn = {"present"} if habit == "reads_across" else set()
    assert failures(SHEET, Habits(**{habit: True}), whole_lines=True) == failed | torn


def test_a_misread_page_number_does_not_pass_as_absent():
    wrong = replace(SHEET, footer="page 31 of 40", running_head=None)
    cases = [load_case(row) for row in make_tests(SHEET, "a.pdf", random.Random(0))]
    (number,) = (case for case in cases if case.type == "absent" and "page" in case.text)
    body = front_matter.strip(write_label(wrong, Habits(keeps_running_text=True)))
    assert not number.run(body).passed


def test_folders_are_laid_out_as_the_bench_reads_them(data_set):
    train = data_set / "train"
    pdfs = sorted(p.name for p in (train / "pdfs" / "synth").iterdir())
    assert len(pdfs) == 30
    tested = set()
    for path in train.glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert len({row["id"] for row in rows}) == len(rows)
        assert {FILES[row["type"]] for row in rows} == {path.name}
        for row in rows:
            assert (train / "pdfs" / row["pdf"]).is_file()
            tested.add(row["pdf"])
    assert len(tested) == 30
    for name in pdfs:
        stem = name.removesuffix(".pdf")
        reference = train / "claude_original" / "synth" / f"{stem}_page1_pg1_repeat1.md"
        assert front_matter.parse(reference.read_text()).primary_language == "en"


def test_warm_up_labels_are_imperfect_and_held_out_ones_true(data_set):
    records = [
        json.loads(line) for line in (data_set / "sft/habits.jsonl").read_text().splitlines()
    ]
    assert len(records) == 40
    labels = [(data_set / "sft" / f"{record['name']}.md").read_text() for record in records]
    assert any("|---|" in label for label in labels)
    assert any("\npage " in label for label in labels)
    for pair in (data_set / "sft_heldout").glob("*.md"):
        reference = data_set / f"heldout/claude_original/synth/{pair.stem}_page1_pg1_repeat1.md"
        assert pair.read_bytes() == reference.read_bytes()
        pdf = data_set / f"heldout/pdfs/synth/{pair.stem}.pdf"
        assert pair.with_suffix(".pdf").read_bytes() == pdf.read_bytes()


def test_clean_pairs_are_true_and_other_pages_than_the_warm_up_s(tmp_path):
    folder = write_data_set(tmp_path, train=0, heldout=0, sft=3, clean=40, seed=5)
    clean = folder / "sft_clean"
    assert len(list(clean.glob("*.pdf"))) == 40
    assert not (clean / "habits.jsonl").exists()
    for label in clean.glob("*.md"):
        assert "|---|" not in label.read_text()
        assert "\npage " not in label.read_text()
    name = "sheet_00000.pdf"
    assert (clean / name).read_bytes() != (folder / "sft" / name).read_bytes()
    assert not (folder / "sft_heldout").exists()


def test_seed_decides_every_byte_and_splits_differ(data_set, tmp_path):
    again = write_data_set(tmp_path / "again", train=30, heldout=10, sft=40, seed=5)
    assert read_all(again) == read_all(data_set)
    other = write_data_set(tmp_path / "other", train=30, heldout=0, sft=0, seed=6)
    assert read_all(other / "train") != read_all(data_set / "train")
    first = "pdfs/synth/sheet_00000.pdf"
    assert (again / "train" / first).read_bytes() != (again / "heldout" / first).read_bytes()


def test_more_pages_leave_the_first_ones_as_they_are(data_set, tmp_path):
    longer = write_data_set(tmp_path, train=31, heldout=0, sft=0, seed=5)
    for index in range(30):
        name = f"train/pdfs/synth/sheet_{index:05d}.pdf"
        assert (longer / name).read_bytes() == (data_set / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--train", "-1"], "train is -1"),
        (["--train", "0", "--heldout", "0"], "nothing to write"),
        (["--difficulty", "9"], "difficulty: 9 is unknown"),
        (["--sft", "3", "--habit", "endless"], "expected NAME=RATE"),
        (["--sft", "3", "--habit", "sloppy=1"], "'sloppy' is unknown"),
    ],
)
def test_command_line_mistakes_end_in_a_sentence(arguments, sentence, tmp_path, capsys):
    assert main(["pages", str(tmp_path), *arguments]) == 2
    message = capsys.readouterr().err
    assert sentence in message
    assert message.count("\n") == 1
