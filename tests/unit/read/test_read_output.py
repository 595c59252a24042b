"""Pages as markdown, Dolma documents and plain text; rotation, speed and cost."""

import json
import time

import pytest

from olmrl.data.render import BadPage, UnreadPage
from olmrl.evaluation.reading import Reading
from olmrl.markup.front_matter import PageResponse
from olmrl.read.backend import Usage
from olmrl.read.book import Book
from olmrl.read.documents import Document, find_documents
from olmrl.read.output import PageText, dolma, markdown, plain, plain_text, sound
from olmrl.read.settling import as_it_lies, settle
from olmrl.read.tally import Speed


def page(number, text, kind="read", **figures):
    response = (
        None if kind in ("bad", "failed") else PageResponse("en", True, 0, False, False, text)
    )
    return PageText(number, kind, response, **figures)


PAGES = [page(1, "one", tokens=5), page(2, None), page(3, None, "bad"), page(4, "four", tokens=7)]


def test_markdown_shows_where_pages_begin_and_which_are_missing():
    assert markdown(PAGES) == (
        "<!-- page 1 -->\n\none\n\n<!-- page 2 -->\n\n<!-- page 3: not read -->\n\n"
        "<!-- page 4 -->\n\nfour\n"
    )


def test_a_dolma_document_has_the_spans_of_its_pages():
    found = json.loads(dolma("/x.pdf", PAGES, "2026-01-01"))
    assert found["text"] == "one\nfour"
    spans = found["attributes"]["pdf_page_numbers"]
    assert [(found["text"][a:b].strip(), n) for a, b, n in spans] == [
        ("one", 1), ("", 2), ("four", 4),
    ]  # fmt: skip
    assert found["metadata"]["Source-File"] == "/x.pdf"
    assert found["metadata"]["pdf-total-pages"] == 4
    assert found["metadata"]["total-output-tokens"] == 12
    assert found["id"] != json.loads(dolma("/y.pdf", PAGES, "2026-01-01"))["id"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Head\n\n**bold** and *slanted* and ***both***", "Head\n\nbold and slanted and both"),
        ("2 * 3 * 4 and a_b_c", "2 * 3 * 4 and a_b_c"),
        ("![a cat](x_1_2_3_4.png) sits", "a cat sits"),
        ("<table><tr><th>A</th><td>B</td></tr><tr><td>1</td><td>2 3</td></tr></table>",
         "A\tB\n1\t2 3"),
        ("before <table><tr><td>never closed", "before never closed"),
        ("a < b and c > d", "a < b and c > d"),
        (r"\( x^2 \) stays", r"\( x^2 \) stays"),
        ("one\n---\ntwo", "one\n\ntwo"),
        ("H<sub>2</sub>O<br>", "H2O"),
    ],
)  # fmt: skip
def test_plain_text_has_no_marks(text, expected):
    assert plain(text) == expected


def test_halves_of_characters_do_not_reach_a_file():
    assert sound("a\ud83d\ude00b") == "a\U0001f600b"
    assert sound("a\ud83db").encode() == "a\ufffdb".encode()


def test_plain_pages_are_parted_by_form_feeds():
    assert plain_text(PAGES).split("\f") == ["one\n", "\n", "\n", "four\n"]


@pytest.mark.parametrize("piece", ["<table", "![", "**a", "<b ", "# ", "<table><tr>", "* *", "]("])
def test_hostile_text_takes_no_time(piece):
    started = time.process_time()
    plain(piece * 20_000)
    assert time.process_time() - started < 5.0


@pytest.mark.parametrize(
    ("said", "turned", "lies"),
    [
        ((True, 0), 0, (True, 0)),
        ((True, 0), 90, (False, 90)),
        ((False, 270), 90, (True, 0)),
        ((False, 180), 90, (False, 270)),
        ((False, 90), 0, (False, 90)),
        ((False, 0), 0, (False, 0)),
    ],
)
def test_rotation_is_told_of_the_page_in_the_pdf(said, turned, lies):
    found = as_it_lies(PageResponse("en", *said, False, False, "x"), turned)
    assert (found.is_rotation_valid, found.rotation_correction) == lies
    assert found.natural_text == "x"


@pytest.mark.parametrize(
    ("outcome", "kind", "reason"),
    [
        (BadPage("a.pdf", 3, "damaged"), "bad", "damaged"),
        (UnreadPage("a.pdf", 3, "no such file"), "failed", "no such file"),
        (Reading("n", None, "an engine gave up"), "failed", "an engine gave up"),
    ],
)
def test_a_page_without_an_answer_says_why(outcome, kind, reason):
    found = settle(3, outcome, lambda answer: Usage(1, 1), lambda text: text)
    assert (found.number, found.kind, found.reason, found.response) == (3, kind, reason, None)


def test_cost_follows_from_speed_and_price():
    speed = Speed(pages=7200, tokens=0, seconds=3600.0)
    assert speed.usd_per_1000_pages(20.0) == pytest.approx(20.0 / 7.2)
    assert "$2.78 per 1,000 pages at $20 per hour" in speed.described(20.0)
    assert "$" not in speed.described(None)
    assert Speed(0, 0, 0.0).usd_per_1000_pages(20.0) is None


def test_a_local_path_is_the_same_from_everywhere(tmp_path, monkeypatch):
    (tmp_path / "a.pdf").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    expected = [Document("a", str(tmp_path / "a.pdf"))]
    for place in ("a.pdf", ".", f"file://{tmp_path}/a.pdf"):
        assert find_documents([place]) == expected


def test_documents_are_named_by_their_place(tmp_path):
    for name in ("b.pdf", "sub/a.PDF", "sub/x:y.pdf", ".hidden/c.pdf", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = find_documents([str(tmp_path)])
    assert [document.name for document in found][:2] == ["b", "sub/a"]
    assert len(found) == 3 and ":" not in found[2].name
    (alone,) = find_documents([str(tmp_path / "sub/a.PDF"), str(tmp_path / "sub/a.PDF")])
    assert alone.name == "a"
    for wrong in ("nowhere", "notes"):
        with pytest.raises(ValueError, match="no such file or folder"):
            find_documents([str(tmp_path / wrong)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no PDF"):
        find_documents([str(tmp_path / "empty")])


@pytest.fixture
def book(tmp_path):
    """Open the book of one folder; each call is a new process's view of it."""
    books = []

    def open_book(formats=("markdown",)):
        for old in books:
            old.close()
        books[:] = [Book(str(tmp_path / "out"), {"model": "m"}, formats, f"day {len(books)}")]
        return books[0]

    yield open_book
    books[0].close()


def test_a_book_that_was_cut_off_anywhere_goes_on(book, tmp_path):
    document = Document("d", "/d.pdf")
    first = book()
    assert first.unknown([document]) == [document]
    first.open(document, 3)
    first.add("d", page(2, "two", tokens=2))
    journal = tmp_path / "out/.read/journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"document": "d", "pa')
    second = book()
    assert second.unknown([document]) == [] and second.missing(document) == [1, 3]
    second.add("d", page(1, "one", tokens=1))
    assert not (tmp_path / "out/d.md").exists()
    second.add("d", page(3, "three", tokens=3))
    text = (tmp_path / "out/d.md").read_text()
    assert text.index("one") < text.index("two") < text.index("three")
    assert second.tokens["completion"] == 6
    (tmp_path / "out/d.md").unlink()
    third = book()
    assert third.missing(document) == []
    third.finish()
    assert (tmp_path / "out/d.md").read_text() == text, "from the journal"


def test_texts_of_others_are_not_replaced(book, tmp_path):
    """A folder of page pairs that is read into itself would lose its truth."""
    (tmp_path / "out/sub").mkdir(parents=True)
    (tmp_path / "out/sub/a.md").write_text("the truth")
    documents = [Document("b", "/b.pdf"), Document("sub/a", "/sub/a.pdf")]
    with pytest.raises(ValueError, match=r"out: holds sub/a\.md already, which .* did not write"):
        book().unknown(documents)
    assert book(("text",)).unknown(documents) == documents
    assert book().unknown(documents[:1]) == documents[:1]


def test_a_document_with_a_failed_page_is_written_again_once_it_is_read(book, tmp_path):
    document = Document("d", "/d.pdf")
    first = book()
    first.open(document, 2)
    first.add("d", page(1, "one"))
    first.add("d", page(2, None, "failed", reason="a server was down"))
    first.finish()
    assert "page 2: not read" in (tmp_path / "out/d.md").read_text()
    assert first.failed == 1
    second = book()
    assert second.failed == 0 and second.missing(document) == [2]
    second.add("d", page(2, "two"))
    second.finish()
    assert "two" in (tmp_path / "out/d.md").read_text()
    assert "one" in (tmp_path / "out/d.md").read_text()
