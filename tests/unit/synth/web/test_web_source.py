"""What is taken from a user's HTML, and what is left behind."""

import pytest

from olmrl.synth.web.blocks import MAX_DEPTH
from olmrl.synth.web.source import MAX_BYTES, read_document


def blocks(body, head=""):
    return read_document(f"<html><head>{head}</head><body>{body}</body></html>".encode()).blocks


def test_blocks_in_reading_order_without_attributes():
    assert blocks(
        '<div class="x"><h1 id="a">Title</h1>loose <b style="color:red">bold</b> text'
        '<p onclick="run()">One <a href="http://x/">link</a>.</p></div><ul><li>a<li>b</ul>'
    ) == [
        "<h1>Title</h1>",
        "<p>loose <b>bold</b> text</p>",
        "<p>One link.</p>",
        "<ul><li>a</li><li>b</li></ul>",
    ]


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>document.write('gone')</script>",
        "<style>p{content:url(http://gone/)}</style>",
        "<iframe src='file:///etc/gone'>gone</iframe>",
        "<object data='gone'>gone</object>",
        "<form><input value='gone'><button>gone</button><select><option>gone</select></form>",
        "<p hidden>gone</p>",
        "<p style='display : none'>gone</p>",
        "<p style='opacity:0'>gone</p>",
        "<p style='opacity: 0.00 !important'>gone</p>",
        "<p style='color:red; font-size: 0px'>gone</p>",
        "<p style='font-size:.0em;color:red'>gone</p>",
        "<span aria-hidden='true'>gone</span>",
        "<p><a class='headerlink'>gone</a></p>",
        "<nav>gone</nav><div role='navigation'>gone</div>",
        "<template><p>gone</p></template><noscript>gone</noscript>",
        "<svg><text>gone</text></svg>",
        "<!-- gone --><?gone gone?>",
        "<img src='http://gone/' alt='gone'>",  # too short to describe an image
    ],
)
def test_what_runs_fetches_or_hides_is_left(hostile):
    found = blocks(f"<p>kept</p>{hostile}<p>also kept</p>")
    assert found == ["<p>kept</p>", "<p>also kept</p>"]


@pytest.mark.parametrize(
    "style", ["font-size:0.9em", "font-size: 0.75rem;", "font-size:.8em", "opacity:0.87"]
)
def test_small_and_pale_is_not_hidden(style):
    assert blocks(f"<p style='{style}'>a <b style='{style}'>b</b></p>") == ["<p>a <b>b</b></p>"]


def test_many_marks_in_one_paragraph_are_read_at_once():
    many = "<b>x</b> " * 60_000  # minutes, were each mark held against all others
    (block,) = read_document(f"<p>{many}</p>".encode()).blocks
    assert block.count("<b>") == 60_000


def test_what_stands_behind_the_end_belongs_to_the_page():
    assert read_document(b"<html><body><p>a</p></body></html><p>b</p>").blocks == [
        "<p>a</p>",
        "<p>b</p>",
    ]


def test_the_main_part_is_taken_where_a_page_names_it():
    assert blocks("<header>Site</header><main><p>It</p></main><footer>Site</footer>") == [
        "<p>It</p>"
    ]
    document = read_document(b"<body><header>Site</header><p>It</p><aside>Ads</aside></body>")
    assert document.blocks == ["<p>It</p>"]
    assert document.left == {"<header> of the site": 1, "<aside> of the site": 1}


@pytest.mark.parametrize(
    ("source", "tex", "display"),
    [
        (r'<span class="math inline">\(a^2\)</span>', "a^2", False),
        (r'<span class="math display">\[a &lt; b\]</span>', "a &lt; b", True),
        (r"\(a_1\)", "a_1", False),
        (
            '<math display="block"><semantics><mi>x</mi>'
            '<annotation encoding="application/x-tex">x_0</annotation></semantics></math>',
            "x_0",
            True,
        ),
        ('<math alttext="y^2"><mi>y</mi></math>', "y^2", False),
    ],
)
def test_formulas_are_found_however_they_are_written(source, tex, display):
    tag = "div" if display else "span"
    found = "".join(blocks(f"<p>Let {source} be.</p>"))
    assert f'<{tag} class="tex">{tex}</{tag}>' in found


def test_mathml_without_latex_marks_its_block():
    (block,) = blocks("<p>Let <math><mi>x</mi></math> be.</p>")
    assert "\ufffc" in block


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<a href=x><h2>Head</h2></a>", ["<h2>Head</h2>"]),
        (
            "<dt><h3>Term</h3></dt><dd>It <p>is</p> so</dd>",
            ["<h3>Term</h3>", "<p>It</p>", "<p>is</p>", "<p>so</p>"],
        ),
        ("<span><div>a</div>b</span>", ["<p>a</p>", "<p>b</p>"]),
        ("<h2>A <div>b</div></h2>", ["<p>A</p>", "<p>b</p>"]),
        ("<li>alone</li>", ["<p>alone</p>"]),
        ("<table><tr><td><h2>x</h2></table>", ["<table><tr><td><h2>x</h2></td></tr></table>"]),
    ],
)
def test_blocks_inside_of_what_holds_none_stand_by_themselves(source, expected):
    assert blocks(source) == expected


def test_tables_keep_cells_and_spans_alone():
    (table,) = blocks(
        "<table border=1><tr><th colspan='2' width=9>Head<tr><td rowspan='999999'>a"
        "<td><p>b</p></table>"
    )
    assert table == (
        '<table><tr><th colspan="2">Head</th></tr><tr><td>a</td><td><p>b</p></td></tr></table>'
    )


def test_code_keeps_its_lines():
    assert blocks("<pre>def f():\n    <b>return</b> 1 &lt; 2\n</pre>") == [
        "<pre>def f():\n    return 1 &lt; 2</pre>"
    ]


def test_an_image_with_a_description_becomes_a_box():
    (block,) = blocks('<p><img src="x.png" alt="Sales by &quot;year&quot; and region"></p>')
    assert 'data-description="Sales by &quot;year&quot; and region"' in block
    assert "x.png" not in block


def test_title_language_and_direction():
    document = read_document("<html lang='ar-EG' dir='rtl'><title> A\nB </title><p>نص".encode())
    assert (document.title, document.language, document.right_to_left) == ("A B", "ar", True)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("<p>naïve</p>".encode(), "naïve"),
        ("<p>naïve</p>".encode("cp1252"), "naïve"),
        ("<meta charset=shift_jis><p>日本</p>".encode("shift_jis"), "日本"),
        ("\ufeff<p>naïve</p>".encode(), "naïve"),
    ],
)
def test_encodings(data, text):
    assert read_document(data).blocks == [f"<p>{text}</p>"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "not an HTML page"),
        (b"<p></p><script>x</script>", "no text"),
        (b"<p>x" * (MAX_BYTES // 4 + 1), "larger than 8 MB"),
        (b"<div>" * (MAX_DEPTH + 20) + b"x", "nested"),
        (b"\x00\x01\x02\xff" * 100, "binary data"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(data, told):
    with pytest.raises(ValueError, match=told) as refusal:
        read_document(data)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            '<p>Then <span class="math display">\\[a\\]</span> and <i>so</i> on.</p>',
            ["<p>Then</p>", '<div class="tex">a</div>', "<p>and <i>so</i> on.</p>"],
        ),
        (
            '<p><b>Then <span class="math display">\\[a\\]</span> and</b> so on.</p>',
            ['<p><b>Then <span class="tex">a</span> and</b> so on.</p>'],
        ),
        (
            '<p><span class="math display">\\[\\label{eq:1} a\\]</span></p>',
            ['<div class="tex">a</div>'],
        ),
        (
            '<ul><li>Then <span class="math display">\\[a\\]</span></li></ul>',
            ['<ul><li>Then <div class="tex">a</div></li></ul>'],
        ),
    ],
)
def test_a_formula_on_its_own_line_cuts_its_paragraph(body, expected):
    assert blocks(body) == expected
