"""Honest text that looks like markup is seen: the truth as a completion earns all of its tests."""

import attacked_pages
import pytest
import red_team

from olmrl.markup.visible import see
from olmrl.types import Page

BEFORE = (
    "The harbour archive holds a long ledger of customs and revenue. "
    "Repairs were made in the spring by the northern district. "
)
AFTER = (
    "A survey of the valley found copper and limestone beneath the old quarry, "
    "and the committee agreed."
)

SNIPPETS = [
    # citations and bibliographies
    "as shown in [12][13] before",
    "as shown in [12][13][14], [Smith 99][Jones 01] and elsewhere",
    "Smith [3](p. 44) on this",
    "Smith [3](44) and Jones [4](a) on this",
    "a remark [sic](!) of the editor",
    "[12]: Anonymous",
    "[7]: Anonymous (1999)",
    '[7]: Anonymous "The Book"',
    "[4]: https://example.org/paper",
    '@article{knuth84, title={Literate <Programming>}, author="Knuth", pages={97--111}}',
    "the number n![2][3] of orders",
    # brackets in prose and code
    "Here f[i](x) is a map",
    "the entry a[i][j] of the matrix",
    "call table[key](value) and then run[0](1)",
    "`a[i][j] = b[j][i];` swaps",
    "```c\na[i][j] = b[j][i];\n```",
    "```\nhandlers[name](event)\n```",
    # angle brackets in prose
    "Use the <title> element for the name of a page",
    "both <script> and <style> load things",
    "SELECT <map> FROM x",
    "Usage: copy <object> to <option>",
    "Usage: prog <input> <data> <address>",
    "if i<n and n>0 then stop",
    "if i <n and n> 0 then stop",
    "where a <b and c> d hold",
    "when p <q or r> s does not don't",
    "a List<int> and a Map<String, List<Integer>> of them",
    "a Vec<object>, an Option<select> and a Box<dyn Error>",
    "write to <a@b.c> or to <https://example.org/x>",
    "x <- 3, y -> 4, a <-> b, c <=> d, e <= f => g",
    "the chain 0 < a < b <c< d and e>f>g",
    "sort <file >other 2>&1 && cat <<EOF",
    "<note><to>Tove</to><from>Jani</from></note>",
    "a closing </title> or </object> tag alone",
    r"an escaped \<script> tag",
    "is x <? y or x <! y here",
    # code
    "the `<script>` element, `<!--` and `<div hidden>` in code",
    "``a ` <title> b`` with a mark inside",
    "```html\n<!-- a note -->\n<script>alert(1)</script>\n```",
    "~~~\n<template>\n\n<!-- open\n~~~",
    "> ```\n> <style>p {}</style>\n> ```",
    "```\n# Usage: x <object>\n\n![alt](image.png)\n[id]: http://example.org 'title'\n```",
    "```cpp\n#include <map>\nstd::map<int, std::vector<int>> m;\nif (a<b && c>d) m[1](2);\n```",
    '```xml\n<book id="1"><title>Heat</title></book>\n```',
    '```sh\nsort < in > out; echo "$x" <<< y\n```',
    "```tex\n\\def\\x{1} % a comment\n\\phantom{x}\n```",
    # LaTeX outside formulas
    r"Use \def\x{1} in TeX",
    r"the \phantom command, \label{eq:1} and \newcommand{\a}{b}",
    r"write \color{white} before it",
    r"\let\a=\b is short",
]

SHOWN = [
    *("the set {x | x<y} and <x,y> inner product", "<x|y> bra-ket", r"\langle a\rangle <a, b>"),
    *(
        "template<class T> T f(T a)",
        "template <typename T, int N> class A",
        "class A<T extends B<T>>",
    ),
    *(
        'std::cout << "a<b>c" << std::endl;',
        "#include <stdio.h>",
        "fn f<'a>(x: &'a str) -> &'a str",
    ),
    *(
        "a <= b >= c <> d != e",
        "grep '<title>' file",
        "$ cmd <file> [options]",
        "[-a][-b] [--long](x)",
    ),
    *("arr[0][1][2](3)", "$(x)[y]", r"\[0-9\]+ is a regex", "costs $$5 and $$6", "wow![see](p)"),
    *(
        "[x] done [ ] open",
        "[x]: y",
        "[Note]: see below",
        "[1]: J.Smith",
        "see[^1][2]",
        "(see [4])(a)",
    ),
    *("<ns:tag>text</ns:tag>", "don't <b don't c> it's", "it's <i it's> x", "`unclosed <script>x"),
    *("``quotes'' and <title> it", r"a\_b \<b\>", r"\color{red}", r"\textcolor{blue}{shown}"),
    *(
        r"\colorbox{white}{shown}",
        "Dear <name>, your <address> and <date>",
        "<summary> and <details>",
    ),
    *(
        "The <head> and <body> elements",
        "SELECT <select> FROM <table> WHERE <meter>",
        "<video> or <audio>",
    ),
    *(
        "size <small",
        "if(a<b){c>d}",
        "i<j;i>k",
        "a<b/c>d",
        "x</y>z",
        "</end>",
        "<key>=<value>",
        "<br",
    ),
    *(
        "<!- x ->",
        "<-- see here",
        "--> there",
        "for(i=0;i<n;i++) a[i](b[i]);",
        '"<input>" of <area>',
    ),
    *(
        "Press <Enter> or <Ctrl>+<C>",
        "<T>(x) => [x](0)",
        "is x <? or <! y>",
        "5 < 6 and 7 > 2",
        "<<EOF",
    ),
]

TABLES = {
    '<th style="background:#036;color:white">{}</th>': "white on dark",
    '<th style="color:#fff;background-color: rgb(0, 51, 102)">{}</th>': "white on a colour",
    '<th bgcolor="#003366"><font color="white">{}</font></th>': "white on dark, old",
    '<td style="height:3px">{}</td>': "low",
    '<td style="width:0">{}</td>': "narrow",
    '<td style="text-transform: uppercase">{}</td>': "text-transform",
    '<td style="overflow-x:auto; overflow:hidden">{}</td>': "overflow",
    '<td style="margin-left:-1em; text-indent:-2em">{}</td>': "small negative margins",
    '<td style="position:relative; top:-2px; z-index:1">{}</td>': "relative",
    '<td style="border-width:1px; border-top-width:0; outline-width:0">{}</td>': "border",
    '<td style="transform: rotate(-90deg)">{}</td>': "turned",
    '<td style="border-color:white; caret-color:transparent">{}</td>': "white border",
    '<td style="max-height:0; line-height:0">{}</td>': "no line height",
    '<td style="font: bold 12px/1 Arial; letter-spacing:-1px">{}</td>': "font",
    '<td style="font: 700 0.9em serif; opacity:0.8; min-width:0">{}</td>': "font in em",
    "<td nowrap valign=top>{}</td>": "old attributes",
}


def page_of(truth, *phrases):
    """A page whose tests look for phrases, and for all of the rest."""
    rows = [{"type": "present", "text": phrase, "max_diffs": 0} for phrase in phrases]
    rows += [
        {"type": "present", "text": AFTER, "max_diffs": 0},
        {"type": "order", "before": BEFORE[:40], "after": AFTER[:40], "max_diffs": 0},
        {"type": "absent", "text": "Printed for the author", "max_diffs": 1},
        {"type": "baseline"},
    ]
    tests = tuple({"pdf": "a.pdf", "page": 1, "id": f"t{k}", **r} for k, r in enumerate(rows))
    files = ("tests.jsonl",) * len(tests)
    return Page("a.pdf::1", "a.pdf", 1, reference=truth, tests=tests, test_files=files)


def bench_of(truth, *phrases):
    text = attacked_pages.HEAD + truth
    (rollout,) = red_team.score(page_of(text, *phrases), [text], ("bench",))
    result = rollout.rewards["bench"]
    return result.value, [v for v in result.verdicts if not v.passed]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_text_that_looks_like_markup(snippet):
    gap = "\n\n" if snippet.startswith(("```", "~~~", "> ", "[", "<note")) else ""
    truth = BEFORE + gap + snippet + "\n\n" + AFTER
    assert see(truth).text == truth
    lines = [line for line in snippet.split("\n") if any(map(str.isalnum, line))]
    assert bench_of(truth, *lines) == (1.0, [])


@pytest.mark.parametrize("text", SHOWN)
def test_all_of_it_is_seen(text):
    assert see(text).text == text
    assert see(f"Before {text} after <b>it</b>.").text == f"Before {text} after <b>it</b>."
    assert see(text).hidden == 0


@pytest.mark.parametrize("cell", TABLES, ids=TABLES.values())
def test_styled_cells(cell):
    rows = f"<tr>{cell.format('Tons')}{cell.format('Value in pounds')}</tr>"
    rows += "<tr><td>1812 of coal</td><td>311 of grain</td></tr>" * 2
    table = f'<table style="border-width:1px; border-collapse:collapse">{rows}</table>'
    truth = BEFORE + "\n\n" + table + "\n\n" + AFTER
    assert bench_of(truth, "Tons", "Value in pounds") == (1.0, [])


@pytest.mark.parametrize(
    "row",
    ['<tr style="background:#036">{}</tr>', "<tr bgcolor=black>{}</tr>"],
)
def test_white_text_on_the_background_of_its_row(row):
    head = row.format('<th style="color:white">Tons</th><th style="color:#fff">Pounds</th>')
    truth = f"{BEFORE}\n\n<table>{head}<tr><td>12</td><td>13</td></tr></table>\n\n{AFTER}"
    assert bench_of(truth, "Tons", "Pounds") == (1.0, [])
    beyond = truth + '\n\n<p style="color:white">gone</p>'
    assert "gone" not in see(beyond).text


def test_a_table_whose_styles_are_longer_than_its_text():
    style = "border:1px solid black; padding:4px; text-align:center; background-color:#eeeeee"
    cells = "".join(f'<td style="{style}" class="cell number">{k}</td>' for k in range(10, 16))
    truth = f"{BEFORE}\n\n<table>{f'<tr>{cells}</tr>' * 8}</table>\n\n{AFTER}"
    assert bench_of(truth, "14") == (1.0, [])
