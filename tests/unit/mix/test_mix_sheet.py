"""The sheet that people judge pages and tests on, in a real browser: keys, marks, hostile text."""

import io
import json

import pytest
from PIL import Image
from sheet_browser import launched, opened, saved_marks

from olmrl.mix.review_marks import read_marks
from olmrl.mix.sheet import SheetPage, mark_id, write_sheet

HOSTILE = (
    "</pre></script><script>alert(1)</script><img src=x onerror=alert(2)>"
    '"><iframe src="file:///etc/passwd">{{ 7*7 }}<!-- &amp; \ud800 \u202e \0 end'
)


@pytest.fixture(scope="module")
def browser():
    with launched() as found:
        yield found


def picture(colour, form="JPEG"):
    stream = io.BytesIO()
    Image.new("RGB", (40, 60), colour).save(stream, form)
    return stream.getvalue()


def hostile_page(name=HOSTILE):
    return SheetPage(
        name,
        source_picture=picture("red", "PNG"),
        render=picture("blue"),
        truth=f"\n\n# {HOSTILE}",
        tests=({"type": "present", "id": HOSTILE, "text": HOSTILE},),
        test_files=("present.jsonl",),
        failed_checks=(HOSTILE,),
        reader_verdict=HOSTILE,
        cost=0.1234,
    )


def test_hostile_text_stays_text(browser, tmp_path):
    write_sheet([hostile_page()], tmp_path, HOSTILE)
    with opened(browser, tmp_path / "index.html") as page:
        shown = HOSTILE.replace("\ud800", "\ufffd").replace("\0", "")
        assert page.locator("script").count() == 2
        assert page.locator("iframe").count() == 0 and page.locator("img").count() == 2
        for place in ("pre", "li.unit, ol li", "ul.failed li", "h2 .facts >> nth=0"):
            assert shown.split(" {{")[0] in page.text_content(place).replace("\0", "")
        assert "$0.1234" in page.text_content("h2")
        assert page.evaluate("[...document.images].map(i => i.naturalWidth)") == [40, 40]
        page.keyboard.press("r")
        (mark,) = saved_marks(page)
    assert mark == {"id": HOSTILE, "verdict": "bad", "reason": ""}


def test_keys_judge_and_move_and_marks_are_those_that_mix_reads(browser, tmp_path):
    names = ["a", "b/c", "__proto__", "constructor", "last"]
    write_sheet((SheetPage(name) for name in names), tmp_path, "Five pages")
    with opened(browser, tmp_path / "index.html") as page:
        for key in ("a", "r", "k", "u", "j"):
            page.keyboard.press(key)
        page.keyboard.press("t")
        page.keyboard.type("no raj a")
        page.keyboard.press("Enter")
        page.keyboard.press("a")
        page.keyboard.press("n")
        assert page.inner_text(".here h2") == "b/c"
        assert page.inner_text("#count") == "2 accepted, 1 rejected, 5 in all"
        rows = saved_marks(page)
    assert [(row["id"], row["verdict"], row["reason"]) for row in rows] == [
        ("a", "good", ""), ("__proto__", "bad", "no raj a"), ("constructor", "good", ""),
    ]  # fmt: skip
    path = tmp_path / "marks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {name: mark.verdict for name, mark in read_marks(str(path)).items()} == {
        "a": "good", "__proto__": "bad", "constructor": "good",
    }  # fmt: skip


def test_marks_of_an_earlier_sitting_are_loaded(browser, tmp_path):
    write_sheet([SheetPage("a"), SheetPage("b")], tmp_path, "Two pages")
    marks = tmp_path / "marks.jsonl"
    marks.write_text(
        '\ufeff{"id": "a", "verdict": "good"}\n{"id": "gone", "verdict": "bad"}\n\n'
        '{"id": "a", "verdict": "none"}\n{"id": "b", "verdict": "bad", "reason": "order"}\n'
    )
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"id": "a", "verdict": "good"}\n{"id": "a", "verdict": "perhaps"}\n')
    with opened(browser, tmp_path / "index.html") as page:
        page.set_input_files("#load", str(marks))
        page.wait_for_function("document.getElementById('said').textContent")
        assert page.inner_text("#said") == "1 marks of marks.jsonl name nothing here"
        assert saved_marks(page) == [{"id": "b", "verdict": "bad", "reason": "order"}]
        page.reload()  # kept by the browser too
        assert page.inner_text("#count") == "0 accepted, 1 rejected, 2 in all"
        page.set_input_files("#load", str(broken))
        page.wait_for_function("document.getElementById('said').textContent")
        assert page.inner_text("#said") == "broken.jsonl, line 2: not a mark"


def test_tests_are_judged_one_by_one(browser, tmp_path):
    rows = ({"type": "present", "id": "1", "text": "x"}, {"type": "absent", "id": "1", "text": "y"})
    page = SheetPage("p", tests=rows, test_files=("one.jsonl", "two.jsonl"))
    write_sheet([page, SheetPage("without tests")], tmp_path, "Tests", judged="tests")
    with opened(browser, tmp_path / "index.html") as shown:
        assert shown.locator(".unit").all_inner_texts() == ["present: text: x", "absent: text: y"]
        shown.keyboard.press("r")
        shown.keyboard.press("a")
        verdicts = {row["id"]: row["verdict"] for row in saved_marks(shown)}
    assert verdicts == {mark_id("one.jsonl", "1"): "bad", mark_id("two.jsonl", "1"): "good"}


def test_an_empty_sheet_can_be_opened(browser, tmp_path):
    write_sheet([], tmp_path, "Nothing")
    with opened(browser, tmp_path / "index.html") as page:
        for key in "arunjk":
            page.keyboard.press(key)
        assert page.inner_text("#count") == "0 accepted, 0 rejected, 0 in all"


def test_a_picture_is_a_picture(tmp_path):
    with pytest.raises(ValueError, match="picture 0001-render: neither JPEG nor PNG nor WebP"):
        write_sheet([SheetPage("p", render=b"<svg onload=alert(1)>")], tmp_path, "x")
