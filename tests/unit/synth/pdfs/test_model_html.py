"""Pages that models write: what is kept, what is harmless, and what makes them unfit."""

import time

import pytest
from PIL import Image, ImageDraw

from olmrl.synth.cleaning.near_copies import near_copies, print_of
from olmrl.synth.pdfs.likeness import likeness
from olmrl.synth.pdfs.model_html import read_model_html, shown_html, truth_html
from olmrl.synth.proof.html_truth import read_html
from olmrl.synth.web.safe_css import safe_declarations, safe_sheet

TEXT = "<p>Some text of more than twenty letters.</p>"


def start(text):
    """A parameter's name."""
    return text[:20]


def shown(html):
    return shown_html(read_model_html(html), 400, 500, 1.0)


def markdown(html):
    return read_html(truth_html(read_model_html(html))).markdown.split("---\n", 2)[2].strip()


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>while(1){}</script>",
        "<iframe src='file:///etc/passwd'></iframe>",
        "<object data='file:///etc/passwd'></object>",
        "<img src='http://evil/x.png' alt='a cat'>",
        "<img src='data:image/png;base64,AAAA' alt='a bomb'>",
        "<link rel='stylesheet' href='http://evil/x.css'>",
        "<style>@import 'http://evil/x.css'; p{background:url(http://evil/x.png)}</style>",
        "<style>p{background:u\\72l(http://evil/x.png)}</style>",
        "<style>p::before{content:'http://evil invented'}</style>",
        "<p style='background:url(javascript:alert(1))' onclick='alert(1)'>clicked</p>",
        "<a href='javascript:alert(1)'>linked</a>",
        "<svg onload='alert(1)'><script>alert(1)</script></svg>",
        "<meta http-equiv='refresh' content='0;url=http://evil/'>",
        "<base href='http://evil/'><form action='http://evil/'><input value='http://evil'></form>",
        "<math><annotation-xml encoding='text/html'><script>alert(1)</script></math>",
        "</style><script>alert(1)</script>",
        "<style></style ><![CDATA[<script>alert(1)</script>]]></style>",
        "<p class='x\"><script>alert(1)</script>'>quoted</p>",
        "<div class=image data-description='\"><script>alert(1)</script>'></div>",
    ],
)
def test_nothing_that_runs_fetches_or_reads_is_left(hostile):
    page = shown(TEXT + hostile)
    for word in ("<script", "evil", "passwd", "javascript", "onclick", "onload", "src=", "url("):
        assert word not in page.replace("&lt;script", ""), word
    assert "more than twenty letters" in page


@pytest.mark.parametrize(
    ("declaration", "left"),
    [
        ("color:#333;font-size:12px", "color:#333;font-size:12px"),
        ("width:calc(50% - 10px)", "width:calc(50% - 10px)"),
        ("height:20px", "min-height:20px"),
        ("font-family:'Times New Roman', serif !important", "font-family:'Times New Roman', serif"),
        ("grid-template-columns:repeat(2, 1fr)", "grid-template-columns:repeat(2, 1fr)"),
        *((hidden, "") for hidden in ("display:none", "visibility:hidden", "opacity:0")),
        *((moved, "") for moved in ("position:absolute", "float:right", "transform:scale(0)")),
        *((moved, "") for moved in ("margin-top:-500px", "order:2", "flex-direction:row-reverse")),
        *((large, "") for large in ("width:99999px", "columns:5000", "min-height:100vh")),
        *((large, "") for large in ("grid-template-columns:repeat(100000, 1px)", "line-height:0")),
        *((other, "") for other in ("text-transform:uppercase", "content:'x'", "animation:x 1s")),
        *((other, "") for other in ("font:small-caps 12px serif", "width:expression(alert(1))")),
        ("--x:1;color:var(--x)", ""),
    ],
)
def test_css_keeps_what_neither_hides_nor_moves_nor_invents(declaration, left):
    assert safe_declarations(declaration) == left


def test_rules_of_css_stay_inside_the_page():
    sheet = safe_sheet(
        "body{color:red} html body p, #a .b>td:first-child {color:blue} .image{width:9px} "
        "@media print{p{color:red}} p{color:re\\64} }}} h1{color:green"
    )
    assert sheet.split("\n") == [
        ".page{color:red}",
        ".page p,.page #m-a .m-b>td:first-child{color:blue}",
        ".page .image{width:9px}",
    ]


@pytest.mark.parametrize(
    "bomb",
    [
        "\\(" * 190_000 + TEXT,
        "\\[" * 190_000 + TEXT,
        "$$a" * 130_000 + TEXT,
        "<style>" + "/*" * 30_000 + "</style>" + TEXT,
        "<style>" + "a{" * 30_000 + "</style>" + TEXT,
        "<style>" + "a{color:red}" * 30_000 + "</style>" + TEXT,
        "<table><tr>" + "<td colspan=100 rowspan=100>x" * 500,
        "<p style='" + "color:red;" * 30_000 + "'>" + TEXT,
    ],
    ids=start,
)
def test_bombs_are_read_in_no_time(bomb):
    started = time.process_time()
    read_model_html(bomb)
    assert time.process_time() - started < 20


@pytest.mark.parametrize(
    ("html", "reason"),
    [
        ("x" * 50_000_000, "more than 400000"),
        ("<div>" * 5000 + TEXT, "nested more than 100 deep"),
        ("<p>x</p>" * 7000, "more than 6000 elements"),
        ("", "not an HTML page"),
        ("<p>short</p>", "less than 20 characters"),
        ("<style>p{color:red}</style><script>long enough a script</script>", "less than 20"),
    ],
    ids=start,
)
def test_what_is_no_page_is_refused(html, reason):
    with pytest.raises(ValueError, match=reason):
        read_model_html(html)


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ("<table><tr><td>1<td>2<tr><td>3</table>", "do not fill the same number of columns"),
        ("<table><tr><td>1<table><tr><td>2</table></table>", "stands in a cell of another"),
        ("<p>\\(\\frac{\\)</p>", "cannot be rendered by KaTeX"),
        ("<p>" + "\\(x\\)" * 500 + "</p>", "at most 400 can be set"),
        ("<table><tr><td colspan=2>1<tr><td>2<td>3</table><p>\\(\\frac12\\)</p>", ""),
    ],
    ids=start,
)
def test_faults_say_what_to_mend(html, fault):
    faults = read_model_html(TEXT + html).faults
    assert (fault in faults[0]) if fault else not faults


def test_the_truth_says_what_the_page_shows():
    html = (
        "<html lang='pt-BR'><body><header>Running head</header><h1>Title</h1>"
        "<p>If \\(a<b\\) and <b>bold</b>:</p><p>\\[x = 1\\]</p><table><caption>Prices</caption>"
        "<tr><th>A</th><th>B</th></tr><tr><td>1</td><td>2</td></tr></table>"
        "<p>See <img alt='a cat' src=x> here.</p><p style='display:none'>not hidden from us</p>"
        "<div class='footnote'>1 A note.</div><footer><span class='page-number'>7</span></footer>"
    )
    assert markdown(html) == (
        "# Title\n\nIf \\(a< b\\) and **bold**:\n\n\\[x = 1\\]\n\nPrices\n\n<table>\n"
        "<tr><th>A</th><th>B</th></tr>\n<tr><td>1</td><td>2</td></tr>\n</table>\n\nSee\n\n"
        "![a cat](page.png)\n\nhere.\n\n1 A note."
    )
    page = read_model_html(html)
    assert page.language == "pt" and page.left["hidden element"] == 1
    read = read_html(truth_html(page))
    assert read.furniture == ("Running head", "7")
    assert read.markdown.startswith("---\nprimary_language: pt\n")


def test_a_title_in_the_header_is_content():
    assert markdown(f"<header><h1>The title</h1></header>{TEXT}").startswith("# The title")


# -- likeness and copies


def drawn(columns, lines=30):
    picture = Image.new("L", (600, 800), 250)
    pen = ImageDraw.Draw(picture)
    width = 480 // columns
    for column in range(columns):
        left = 60 + column * width
        for line in range(lines):
            if line % 10 != 9:
                pen.rectangle((left, 60 + 22 * line, left + width - 30, 70 + 22 * line), fill=20)
    return picture


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_columns_blocks_and_ink_are_told(columns):
    found = likeness(drawn(columns), drawn(columns).resize((750, 1000)))
    assert found.source.columns == found.render.columns == columns
    assert found.source.blocks == 3 * columns
    assert found.source.ink == pytest.approx(found.render.ink, abs=0.01)
    assert found.overlap > 0.95


def test_pages_that_differ_are_less_alike():
    assert likeness(drawn(1, 30), drawn(1, 10)).overlap < 0.5
    empty = Image.new("L", (600, 800), 255)
    assert likeness(empty, empty).overlap == 1 and likeness(empty, drawn(2)).overlap == 0


def test_near_copies_go_by_words_or_by_looks_and_the_first_name_stays():
    text = " ".join(f"word{n}" for n in range(200))
    changed = text.replace("word7 ", "other ")
    blank, form = Image.new("L", (600, 800), 255), drawn(2)
    prints = {
        "d": print_of(text, blank),
        "b": print_of(changed, form),
        "c": print_of(" ".join(f"word{n}" for n in range(150, 350)), blank),
        "f": print_of("", form),
        "e": print_of("few words", form.resize((300, 400))),
        "g": print_of("", drawn(3)),
    }
    assert near_copies(prints) == {"d": "b", "f": "e"}
