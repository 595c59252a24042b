"""Loading cases: defaults, validation messages, sharing a parsed page."""

import json

import pytest

from olmrl.bench import CaseError, ParsedPage, load_case

COMMON = {"pdf": "a.pdf", "page": 1, "id": "t1"}
MINIMAL = {
    "present": {"text": "x"},
    "absent": {"text": "x"},
    "order": {"before": "a", "after": "b"},
    "format": {"text": "x", "format": "bold"},
    "table": {"cell": "x"},
    "math": {"math": "x"},
    "footnote": {"marker": "1"},
    "baseline": {},
}
DEFAULTS = {
    "present": {"case_sensitive": True, "first_n": None, "last_n": None},
    "absent": {"case_sensitive": True, "first_n": None, "last_n": None},
    "order": {},
    "format": {"case_sensitive": True},
    "table": {
        **dict.fromkeys(["up", "down", "left", "right", "top_heading", "left_heading"], ""),
        "ignore_markdown_tables": False,
    },
    "math": {"ignore_dollar_delimited": False},
    "footnote": {"appears_before_marker": None, "appears_after_marker": None},
    "baseline": {
        "max_length": None,
        "max_length_skips_image_alt_tags": False,
        "max_repeats": 30,
        "check_disallowed_characters": True,
    },
}


def row(kind="present", **fields):
    return {"type": kind, **COMMON, **MINIMAL[kind], **fields}


@pytest.mark.parametrize("kind", MINIMAL)
@pytest.mark.parametrize("compat", [False, True])
def test_defaults_and_round_trip(kind, compat):
    case = load_case(row(kind), compat=compat)
    expected = {
        **row(kind),
        **DEFAULTS[kind],
        "max_diffs": 0,
        "checked": None,
        "url": None,
    }
    assert case.to_row() == expected
    assert load_case(json.dumps(case.to_row()), compat=compat) == case


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (row(text=5), ["'t1'", "text", "5", "str"]),
        (row(max_diffs=-1), ["max_diffs", "-1", ">= 0"]),
        (row(max_diffs=1.0), ["max_diffs", "1.0", "int"]),
        (row(case_sensitive="no"), ["case_sensitive", "'no'", "bool"]),
        (row(id=""), ["id", "empty"]),
        (row(pdf=""), ["pdf", "empty"]),
        (row(text="** **"), ["text", "blank"]),
        (row(tex="x"), ["'tex'", "did you mean 'text'"]),
        (row("table", zzz=1), ["'zzz'", "top_heading"]),
        (row(type="presnt"), ["'presnt'", "present"]),
        (row(type=None), ["None", "present"]),
        ({"type": "present", **COMMON}, ["'text'", "missing"]),
        ({"type": "present", "text": "x", "pdf": "a.pdf", "id": "t1"}, ["'page'", "missing"]),
        (row("order", before="abc", max_diffs=2), ["max_diffs", "2", "up to 1"]),
        (row("format", format="underline"), ["'underline'", "heading"]),
        (row("footnote", marker="a b"), ["marker", "'a b'"]),
        (row("footnote", appears_after_marker=" "), ["appears_after_marker", "blank"]),
        (row("math", math=" "), ["math", "blank"]),
        (row("math", math=r"\frac{a}{b"), ["math", "cannot be rendered", "KaTeX"]),
    ],
)
def test_errors_name_the_test_the_field_and_what_is_allowed(test, words):
    with pytest.raises(CaseError) as caught:
        load_case(test)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1]", "{", "null", '"x"', "[" * 100_000, None, 5])
def test_text_that_is_no_test(text):
    with pytest.raises(CaseError, match="not a JSON object"):
        load_case(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [("page", "1"), ("page", 0), ("checked", "maybe"), ("max_diffs", True), ("first_n", -3)],
)
def test_only_compat_is_lenient_about(field, value):
    load_case(row(**{field: value}), compat=True)
    with pytest.raises(CaseError, match=field):
        load_case(row(**{field: value}))


def test_cases_share_a_parsed_page():
    page = ParsedPage("<table><tr><td>a</td><td>b</td></tr></table> \\( x \\) **c**")
    assert load_case(row("table", cell="a", right="b")).run_parsed(page).passed
    assert load_case(row("math", math="x")).run_parsed(page).passed
    assert load_case(row("format", text="c")).run_parsed(page).passed
    assert page.html_tables is page.html_tables


def test_a_page_of_the_other_mode_is_a_bug():
    with pytest.raises(AssertionError):
        load_case(row()).run_parsed(ParsedPage("x", compat=True))
