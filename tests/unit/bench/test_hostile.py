"""Every type of test on text made to stall or crash it: an answer comes, and it is no pass."""

import resource

import pytest

from olmrl.bench import ParsedPage, load_case

COMMON = {"pdf": "a.pdf", "page": 1}
TESTS = [
    {"type": "present", "text": "the quick brown fox jumps", "max_diffs": 3},
    {"type": "order", "before": "the quick brown fox", "after": "a lazy dog", "max_diffs": 4},
    {"type": "order", "before": "aaaaaaaaaaaaaaaa", "after": "abababababab", "max_diffs": 5},
    {"type": "format", "text": "a bold statement", "format": "bold"},
    {"type": "format", "text": "an italic statement", "format": "italic"},
    {"type": "format", "text": "a heading", "format": "heading"},
    {"type": "table", "cell": "Total", "right": "42", "top_heading": "Sum"},
    {"type": "math", "math": r"\frac{a}{b} + c = \sum_{i=1}^n x_i"},
    {"type": "footnote", "marker": "17", "appears_before_marker": "the salt tax"},
]
HEAD = "primary_language: en\n"
TEXTS = {
    "ten megabytes": "word " * 2_000_000,
    "ten megabytes of one line of pipes": "|" * 10_000_000,
    "nested tables": "<table><tr><td>" * 10_000,
    "nested braces": r"\(" + "{" * 10_000 + r"\)",
    "many broken formulas": r"\( \frac{ \) " * 300,
    "different formulas": "".join(rf"\(x_{{{i}}}\) " for i in range(12_000)),
    "many dollars": "$x" * 50_000,
    "one letter": "a" * 900_000,
    "two letters": "ab" * 200_000,
    "stars": "*" * 500_000,
    "star pairs": "*a **b " * 100_000,
    "open tags": "<b" * 300_000,
    "open bold": "<b>" * 200_000,
    "open sup": "<sup " * 150_000,
    "sup spaces": "<sup>" + " " * 500_000,
    "superscripts": "\u00b9" * 500_000,
    "open images": "![" * 300_000,
    "hashes": "#" * 300_000 + "\n# " * 100_000,
    "open delimiters": r"\( \[ " * 100_000,
    "yaml bomb": "---\na: &a [x,x]\nb: &b [*a,*a,*a]\nc: [*b,*b,*b,*b]\n---\n",
    "yaml nesting": f"---\n{HEAD}" + "[" * 100_000 + "\n---\n",
    "open front matter": f"---\n{HEAD}" * 100_000,
    "combining marks": "e" + "\u0301" * 400_000,
    "nul and surrogates": "\x00\ud800" * 10_000,
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("compat", [False, True])
def test_no_text_stalls_crashes_or_passes(name, compat):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    page = ParsedPage(TEXTS[name], compat=compat)
    for number, test in enumerate(TESTS):
        case = load_case({**COMMON, "id": str(number), **test}, compat=compat)
        verdict = case.run_parsed(page)
        may_pass = test["type"] == "order" and name in ("one letter", "two letters")
        assert may_pass or not verdict.passed, (test, verdict)
        verdict.explanation.encode()
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 1500


@pytest.mark.parametrize("compat", [False, True])
def test_a_page_beyond_the_limit_fails_even_what_an_empty_page_passes(compat):
    case = load_case({**COMMON, "id": "1", "type": "absent", "text": "xyz"}, compat=compat)
    assert case.run("").passed
    verdict = case.run("word " * 2_000_000)
    assert not verdict.passed
    assert "1000000 characters" in verdict.explanation


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize(
    "row",
    [
        {"type": "present", "text": "x", "max_diffs": 10**400},
        {"type": "table", "cell": "x", "max_diffs": 10**400},
        {"type": "footnote", "marker": "1", "appears_before_marker": "x", "max_diffs": 10**400},
        {"type": "baseline", "max_repeats": 10**400},
        {"type": "present", "text": "x", "first_n": 10**400, "last_n": 10**400},
    ],
    ids=lambda row: row["type"],
)
def test_numbers_without_bound_are_numbers(row, compat):
    case = load_case({"pdf": "a.pdf", "page": 1, "id": "t", **row}, compat=compat)
    assert isinstance(case.run("x[^1] | x | y |\n| x | z |").passed, bool)
