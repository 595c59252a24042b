"""How blocks are cut into pages, and what of a page is shown and what is truth."""

import random
from dataclasses import replace

import pytest

from olmrl.synth.proof.html_truth import read_html
from olmrl.synth.web.document import Document
from olmrl.synth.web.pages import WebPage, displayed, fill, pieces, shown_html, truth_html
from olmrl.synth.web.style import draw_look

FAMILIES = ("Liberation Serif", "DejaVu Serif", "Liberation Sans", "Noto Serif CJK KR")


def look_of(seed, language="en", families=FAMILIES):
    return draw_look(random.Random(seed), language, families)


LOOK = replace(look_of(0), width=800, height=1100, margin=50, columns=1)
TEXT = "words " * 40  # enough for a page


def cut(blocks, heights, look=LOOK):
    left = []
    pages = list(fill(blocks, [(h, 0.0, 0.0, 0.0) for h in heights], look, left.append))
    return [list(page.blocks) for page in pages], left


def test_blocks_fill_columns_and_columns_fill_pages():
    room = LOOK.column_height * 0.97
    blocks = [f"<p>{n} {TEXT}</p>" for n in range(5)]
    assert cut(blocks, [room / 2] * 5)[0] == [blocks[:2], blocks[2:4], blocks[4:]]
    two = replace(LOOK, columns=2)
    assert cut(blocks, [room / 2] * 5, two)[0] == [blocks[:4], blocks[4:]]


def test_a_heading_goes_with_what_follows_it():
    blocks = [f"<p>{TEXT}</p>", "<h2>Next</h2>", f"<p>b {TEXT}</p>"]
    assert cut(blocks, [800, 50, 500])[0] == [blocks[:1], blocks[1:]]


def test_a_block_larger_than_a_column_is_left_and_counted():
    blocks = [f"<p>a {TEXT}</p>", f"<p>b {TEXT}</p>"]
    assert cut(blocks, [5000, 100]) == ([blocks[1:]], ["block larger than a column"])


def test_a_page_of_few_words_is_no_page():
    assert cut(["<p>short</p>"], [20])[0] == []


def test_long_lists_and_listings_are_cut_and_keep_their_numbers():
    items = "".join(f"<li>{'text ' * 30}{n}</li>" for n in range(10))
    parts = list(pieces([f"<ol>{items}</ol>"]))
    assert len(parts) == 10
    assert parts[2].startswith('<ol start="3"><li>')
    lines = "\n".join(f"line {n} &lt;" for n in range(40))
    listing = list(pieces([f"<pre>{lines}</pre>"]))
    assert "\n".join(part[5:-6] for part in listing) == lines
    assert list(pieces(["<ul><li>a</li></ul>"])) == ["<ul><li>a</li></ul>"]


@pytest.fixture
def document():
    return Document("A <b> title", "en", False)


def test_truth_and_picture_say_the_same(document):
    page = WebPage(
        7,
        (
            "<h2>Head</h2>",
            '<p>Let <span class="tex">a &lt; b</span> be <i>so</i>.</p>',
            '<div class="tex">x^2</div>',
            "<pre>def f():\n    return 2*3*4</pre>",
        ),
    )
    truth = read_html(truth_html(document, page))
    assert truth.furniture == ("A <b> title", "7")
    body = truth.markdown.split("---\n")[2]
    assert body == (
        "## Head\n\nLet \\(a < b\\) be *so*.\n\n\\[x^2\\]\n\n```\ndef f():\n    return 2*3*4\n```"
    )
    shown = shown_html(document, page, LOOK)
    assert "A &lt;b&gt; title" in shown and "<math" in shown and "\\(" not in shown
    assert "<script" not in shown and "http" not in shown.replace("http://www.w3.org", "")


def test_a_formula_that_does_not_render_is_named():
    shown, failed = displayed(r'<p>a <span class="tex">\frac{</span></p>')
    assert failed == [r"\frac{"] and shown == "<p>a </p>"


def test_a_look_follows_its_seed_and_leaves_room():
    looks = [look_of(seed) for seed in range(200)]
    assert looks == [look_of(seed) for seed in range(200)]
    assert {look.columns for look in looks} == {1, 2, 3} and len({look.font for look in looks}) > 2
    assert min(look.column_width for look in looks) > 200


@pytest.mark.parametrize(
    ("language", "families", "fonts"),
    [
        ("ko", FAMILIES, {"'Noto Serif CJK KR', serif"}),
        ("ja", FAMILIES, {"sans-serif"}),  # none of its own: whatever the system has
        ("de", ("Liberation Sans",), {"'Liberation Sans', sans-serif"}),
    ],
)
def test_fonts_are_those_of_the_language_that_are_installed(language, families, fonts):
    assert {look_of(seed, language, families).font for seed in range(50)} == fonts
