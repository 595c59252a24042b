"""Completions made to stall, to blow up or to crash a parser, and tests that look at them."""

from itertools import pairwise

from reward_pages import HEAD, test_row

SIZE = 150_000

TESTS = [
    test_row("present", "p", text="a quite ordinary sentence of the page", max_diffs=3),
    test_row("absent", "a", text="running header", max_diffs=1),
    test_row("order", "o", before="the first of sentences", after="the last of them", max_diffs=2),
    test_row("format", "f", text="a heading", format="heading"),
    test_row("format", "g", text="a bold word", format="bold"),
    test_row("format", "h", text="an italic word", format="italic"),
    test_row("table", "t", cell="cell", right="other"),
    test_row("math", "m", math="x = \\frac{a}{b}"),
    test_row("footnote", "n", marker="1", appears_before_marker="some words"),
    test_row("baseline", "b"),
]

BOMB = "a: &a [x,x]\n" + "".join(f"{b}: &{b} [*{a},*{a}]\n" for a, b in pairwise("abcdefgh"))

TEXTS = {
    "nested tables": HEAD + "<table><tr><td>" * 10_000,
    "nested and closed tables": HEAD + "<table><tr><td>" * 5000 + "</td></tr></table>" * 5000,
    "nested braces": HEAD + "\\(" + "{" * 10_000 + "x" + "}" * 10_000 + "\\)",
    "nested fractions": HEAD + "\\[" + "\\frac{1}{" * 10_000 + "x" + "}" * 10_000 + "\\]",
    "macro bomb": HEAD
    + "\\[\\def\\a{xx}"
    + "".join(f"\\def\\{b}{{\\{a}\\{a}\\{a}\\{a}}}" for a, b in pairwise("abcdefghijkl"))
    + "\\l\\]",
    "self-calling macro": HEAD + "\\[\\def\\a{\\a\\a}\\a\\]",
    "spans": HEAD + '<table><tr><td rowspan="99999999" colspan="99999999">cell</td></tr></table>',
    "many spans": HEAD + "<table>" + '<tr><td rowspan="1000" colspan="1000">x</td>' * 500,
    "open tags": HEAD + "<table " * (SIZE // 7),
    "open comments": HEAD + "<!--" * (SIZE // 4),
    "stars": HEAD + "*" * SIZE,
    "bars": HEAD + "_ " * (SIZE // 2),
    "stars and spaces": HEAD + "** " * (SIZE // 3),
    "dollars": HEAD + "$" * SIZE,
    "open math": HEAD + "\\(" * (SIZE // 2),
    "open display math": HEAD + "\\[ $$ " * (SIZE // 6),
    "pipes": HEAD + "|" * SIZE,
    "pipe rows": HEAD + "| a | b |\n" * (SIZE // 10),
    "white space": HEAD + " \n" * (SIZE // 2),
    "heading marks": HEAD + "#" * SIZE,
    "heading tags": HEAD + "<h1>" * (SIZE // 4),
    "image marks": HEAD + "![" * (SIZE // 2),
    "footnote marks": HEAD + "[^1]" * (SIZE // 4),
    "open superscripts": HEAD + "<sup " * (SIZE // 5),
    "almost the needle": HEAD + "a quite zrdinarz sentzncz zf teh pzg " * (SIZE // 38),
    "two letters": HEAD + "ab" * (SIZE // 2),
    "many formulas": HEAD + "".join(f"\\(x_{{{i}}} = {i}\\) " for i in range(2000)),
    "wide formula": HEAD + "\\(" + "a_{1}+" * 5000 + "b\\)",
    "wide matrix": HEAD + "\\[\\begin{matrix}" + "a&" * 20_000 + "\\end{matrix}\\]",
    "yaml aliases": f"---\n{BOMB}---\nbody",
    "yaml nesting": "---\na: " + "[" * 3000 + "\n---\nbody",
    "endless head": "---\n" + "key: value\n" * (SIZE // 11),
    "null and broken characters": HEAD + "\x00\ufffd\ud800 text" * 1000,
    "combining marks": HEAD + "a" + "\u0301" * SIZE,
    "right to left marks": HEAD + "\u202e\u2066" * (SIZE // 2),
}
