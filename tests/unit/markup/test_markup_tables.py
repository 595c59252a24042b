"""Tables as grids: hand-made expectations, quirks of compat, hostile markup."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmrl.markup.html_tree import Element, MarkupError, _TreeParser, parse_tree
from olmrl.markup.tables import parse_html_tables, parse_markdown_tables
from olmrl.markup.text import WorkLimitError


def grid(table):
    """The text in every slot, holes as None."""
    rows = [[None] * table.n_cols for _ in range(table.n_rows)]
    for cell in table.cells:
        for row in range(cell.row, cell.row + cell.row_span):
            for col in range(cell.col, cell.col + cell.col_span):
                rows[row][col] = cell.text
    return rows


def texts(cells):
    return sorted(cell.text for cell in cells)


def cell_of(table, text):
    (cell,) = (cell for cell in table.cells if cell.text == text)
    return cell


SPANS = """
<table><thead>
<tr><th rowspan="2">Item</th><th colspan="2">Price</th></tr>
<tr><td>Net</td><td>Gross</td></tr>
</thead><tbody>
<tr><td>Pear</td><td>2.00</td><td>2.40</td></tr>
<tr><th>Total</th><td colspan="2">3.00<br>(est.)</td></tr>
</tbody></table>
"""


@pytest.mark.parametrize("compat", [False, True])
def test_spans_neighbors_and_headings(compat):
    (table,) = parse_html_tables(SPANS, compat=compat)
    assert grid(table) == [
        ["Item", "Price", "Price"],
        ["Item", "Net", "Gross"],
        ["Pear", "2.00", "2.40"],
        ["Total", "3.00\n(est.)", "3.00\n(est.)"],
    ]
    assert table.is_rectangular
    assert [(c.row, c.col) for c in table.cells if c.text == "3.00\n(est.)"] == [(3, 1)]
    assert texts(table.neighbors(cell_of(table, "Price"), "down")) == ["Gross", "Net"]
    assert texts(table.neighbors(cell_of(table, "Item"), "right")) == ["Net", "Price"]
    assert texts(table.neighbors(cell_of(table, "3.00\n(est.)"), "up")) == ["2.00", "2.40"]
    assert texts(table.neighbors(cell_of(table, "Item"), "left")) == []
    assert texts(table.headings(cell_of(table, "2.40"), "up")) == ["Gross", "Price"]
    assert texts(table.headings(cell_of(table, "3.00\n(est.)"), "left")) == ["Total"]
    assert texts(table.headings(cell_of(table, "2.40"), "left")) == ["Pear"]


def test_holes_are_skipped_and_rectangular_is_false():
    html = "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr><tr><td>d</td><td>e</td></tr>"
    (table,) = parse_html_tables(html)
    assert grid(table) == [["a", "b"], ["c", None], ["d", "e"]]
    assert not table.is_rectangular
    assert texts(table.neighbors(cell_of(table, "e"), "up")) == ["b"]


def test_row_spans_beyond_the_last_row_and_to_the_end():
    html = '<table><tr><td rowspan="3">tall</td><td>r1</td></tr><tr><td>r2</td></tr></table>'
    (table,) = parse_html_tables(html)
    assert grid(table) == [["tall", "r1"], ["tall", "r2"]]
    (table,) = parse_html_tables(html, compat=True)
    assert grid(table) == [["tall", "r1"], ["tall", "r2"], ["tall", None]]
    (table,) = parse_html_tables(
        '<table><tr><td rowspan="0">all</td><td>1</td></tr><tr><td>2</td></tr></table>'
    )
    assert grid(table) == [["all", "1"], ["all", "2"]]


def test_row_spans_end_with_their_section():
    (table,) = parse_html_tables(
        '<table><thead><tr><th rowspan="5">h</th><th>g</th></tr></thead>'
        '<tr><td rowspan="0">a</td><td>b</td></tr><tr><td>c</td></tr>'
        "<tfoot><tr><td>d</td><td>e</td></tr></tfoot></table>"
    )
    assert grid(table) == [["h", "g"], ["a", "b"], ["a", "c"], ["d", "e"]]


SPAN_VALUES = ["x", "-1", "", "2.5", "99999999999999999999", "0", "2px", " +2 ", "1e3"]


@pytest.mark.parametrize(
    ("span", "columns"), zip(SPAN_VALUES, [1, 1, 1, 2, 1000, 1, 2, 2, 1], strict=True)
)
def test_spans_are_numbers_as_browsers_read_them(span, columns):
    html = f'<table><tr><td colspan="{span}">a</td><td>b</td></tr></table>'
    (table,) = parse_html_tables(html)
    assert table.cells[0].col_span == columns
    (table,) = parse_html_tables(html, compat=True)
    assert table.cells[0].col_span == (2 if span == " +2 " else 1)


@pytest.mark.parametrize(
    "html",
    [
        "<table><td>a</td><td>b</td><tr><td>c</td><td>d</td></table>",
        "<table><tbody><td>a<td>b<tr><td>c<td>d</table>",
        "<table><caption>t<tr><td>a</td><td>b</td><tr><td>c</td><td>d</td></table>",
        "<table><tr><b><td>a</td><td>b</td></b></tr><tr><i><td>c</td></i><td>d</td></table>",
        "<table><colgroup><col><tr><td>a<td>b<tbody><td>c<td>d</table>",
        "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr><table>",
        "<TABLE><TR><TD><p>a<TD>b</TR><TR><TD>c<TD>d",
    ],
)
def test_missing_and_stray_tags_as_browsers_mend_them(html):
    assert grid(parse_html_tables(html)[0]) == [["a", "b"], ["c", "d"]]


def test_a_table_that_never_ended_is_not_a_part_of_the_next():
    one, two = parse_html_tables("<table><tr><td>a</td></tr><table><tr><td>b</td></tr></table>")
    assert (grid(one), grid(two)) == ([["a"]], [["b"]])


def test_raised_digits_in_a_cell_stay_raised():
    html = "<table><tr><td>10<sup>2</sup></td><td>1<sup>st</sup> H<sub>2</sub>O</td></tr></table>"
    (table,) = parse_html_tables(html)
    assert table.normal_texts == ["10\xb2", "1st H2O"]
    (table,) = parse_html_tables(html, compat=True)
    assert table.normal_texts == ["102", "1st H2O"]


def test_missing_end_tags():
    html = "<table><tr><td>a1<td>b1<tr><td>a2<td>b2</table><p>after"
    (table,) = parse_html_tables(html)
    assert grid(table) == [["a1", "b1"], ["a2", "b2"]]
    (first, *_) = parse_html_tables(html, compat=True)
    assert first.cells[0].text == "a1b1a2b2after".removesuffix("after")


def test_nested_tables():
    html = (
        "<table><tr><td>A</td><td><table><tr><td>in 1</td><td>in 2</td></tr></table></td></tr>"
        "<tr><td>B</td><td>C</td></tr></table>"
    )
    outer, inner = parse_html_tables(html)
    assert grid(outer) == [["A", "in 1in 2"], ["B", "C"]]
    assert grid(inner) == [["in 1", "in 2"]]
    outer, inner = parse_html_tables(html, compat=True)
    assert grid(outer) == [["A", "in 1in 2"], ["in 1", "in 2"], ["B", "C"]]
    assert grid(inner) == [["in 1", "in 2"]]


def test_text_of_cells():
    html = (
        "<TABLE><TR><TH> R&amp;D </TH><TD><b>5</b>&nbsp;% &#8212; &#x20AC; &unknown;</TD></TR>"
        "<tr><td><!-- no --><script>no</script>yes</td><td></td></tr></TABLE>"
    )
    (table,) = parse_html_tables(html)
    assert grid(table) == [["R&D", "5\u00a0% \u2014 \u20ac &unknown;"], ["yes", ""]]


@pytest.mark.parametrize("text", ["", "no table", "<table></table>", "<table><tr></tr></table>"])
def test_nothing_to_find(text):
    assert parse_html_tables(text) == []
    assert parse_markdown_tables(text) == []


def test_markdown():
    text = "Intro\n\n| Item | Net |\n|:-----|----:|\n| Pear | 2.00 |\n| Fig |  |\n\nOne | line\n"
    for compat in (False, True):
        (table,) = parse_markdown_tables(text, compat=compat)
        assert grid(table) == [["Item", "Net"], ["Pear", "2.00"], ["Fig", ""]]
        assert table.is_rectangular
        assert texts(table.headings(cell_of(table, "2.00"), "up")) == ["Net"]
        assert texts(table.headings(cell_of(table, "2.00"), "left")) == ["Pear"]


def test_markdown_empty_ends():
    text = "a | b\n | c\nd | e"
    assert grid(parse_markdown_tables(text)[0]) == [["a", "b"], ["", "c"], ["d", "e"]]
    assert grid(parse_markdown_tables(text, compat=True)[0])[1] == ["c", None]
    assert grid(parse_markdown_tables("a | b\nc | \n| d | e |")[0]) == [
        ["a", "b"],
        ["c", ""],
        ["d", "e"],
    ]
    assert grid(parse_markdown_tables("|x|y|\n|| b |\n| a ||")[0]) == [
        ["x", "y"],
        ["", "b"],
        ["a", ""],
    ]
    compat = parse_markdown_tables("||x|y|\n|1|2|3|\nz|\n", compat=True)
    assert grid(compat[0]) == [["", "x", "y"], ["1", "2", "3"], ["z", None, None]]


def test_markdown_escaped_pipes():
    text = "| a \\| b | c |\n|---|---|\n| d | e |"
    assert grid(parse_markdown_tables(text)[0]) == [["a | b", "c"], ["d", "e"]]
    assert grid(parse_markdown_tables(text, compat=True)[0])[0] == ["a \\", "b", "c"]


HOSTILE = {
    "nested tables": "<table><tr><td>" * 10_000,
    "nested tables with text": "<table><tr><td>some text" * 10_000,
    "empty nested tables": "<table>" * 10_000,
    "huge spans": '<table><tr><td colspan="999999" rowspan="999999">a</td></tr></table>',
    "many large spans": "<table>" + '<tr><td rowspan="60000">a</td></tr>' * 5000,
    "unclosed tags": "<table><tr><td>" + "<a " * 300_000,
    "unclosed comments": "<table><tr><td>" + "<!-- " * 200_000,
    "unclosed declarations": "<table>" + "<![" * 300_000 + "<!x" * 100_000,
    "broken references": "<table>" + "&#" * 300_000 + ";",
    "unmatched ends": "<table>" + "<b>" * 50_000 + "</i>" * 50_000,
    "ends behind a cell": "<i><table><tr><td>" + "<b>" * 50_000 + "</i>" * 50_000,
    "rows under deep nesting": "<table>" + "<b>" * 50_000 + "<tr>" * 50_000,
    "pipes": "|" * 900_000 + "\n" + "|" * 90_000,
    "pipe lines": "|\n" * 450_000,
    "dashes": "|" + "-:" * 400_000 + "x\n" * 2,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("compat", [False, True])
def test_hostile_markup_ends(name, compat):
    for parse in (parse_html_tables, parse_markdown_tables):
        try:
            tables = parse(HOSTILE[name], compat=compat)
        except (WorkLimitError, MarkupError):
            continue
        assert sum(len(table.cells) for table in tables) < 1_000_000


def test_malformed_declarations_are_text():
    html = "<table><tr><td><![ x</td><td>b</td></tr></table>"
    assert grid(parse_html_tables(html)[0]) == [["<![ x", "b"]]
    with pytest.raises(MarkupError):
        parse_html_tables(html, compat=True)


def test_headings_of_a_large_ragged_table_end():
    rows = "".join(f"<tr><td colspan='{1 + i % 50}'>r{i}</td><td>x</td></tr>" for i in range(3000))
    (table,) = parse_html_tables(f"<table>{rows}</table>")
    assert table.headings(table.cells[-1], "up")


PIECES = (
    *("<table>", "</table>", "<tr>", "</tr>", "<td>", "</td>", "<th>", "</th>", "<br>", "<br/>"),
    *('<td rowspan="2">', '<td colspan="3">', '<td rowspan="2" colspan="2">', "<b>", "</b>"),
    *("<tdd>", "</x>", "<script>", "</script>", "<title>", "<textarea>", "<td", "<", "<1", "&amp;"),
    *("&", "<!-- x -->", "<!", "<?", "]]>", ">", "<P>", "</ td>", "<td >", "a", "1 2", " ", "\n"),
    *("'", '<td x="y', '">', "<td x='>'>"),
)


def flat(document):
    return [
        (n.name, list(n.attributes.items()), n.index, n.end, n.parent and n.parent.index)
        if isinstance(n, Element)
        else n
        for n in document.nodes
    ]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_plain_tags_make_the_tree_that_the_tokenizer_makes(text):
    parser = _TreeParser(implied_ends=True)
    parser.feed(text)
    parser.close()
    assert flat(parse_tree(text)) == flat(parser.finish())
