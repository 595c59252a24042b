"""What each reward says, against hand-computed values and the public code's own."""

import gzip
import json
import math
import re
from pathlib import Path

import pytest
from reward_pages import END_ID, HEAD, completion, group, page, test_row

from olmrl.bench import load_case
from olmrl.config.schema import RewardConfig
from olmrl.rewards import UnscorablePage, build, score, score_rollouts

ORACLE = Path(__file__).parents[4] / "shared" / "oracle" / "rewards.jsonl.gz"


def value_of(name, the_page, completions, **options):
    entry = build(RewardConfig(name=name, options=options))
    return [r.rewards[name] for r in score_rollouts((entry,), the_page, completions)]


MARKED = (
    "# Report on grain\n\nThe **harbour** committee sold the grain and the _coal_ until winter.\n\n"
    "A survey of the **valley** found copper beneath the \\(x_1 * y_2\\) quarry."
)
PLAIN = re.sub(r"(?<!x)(?<!y)[#*_](?! y)", "", MARKED)


def bold(*words):
    """The page without its marks, and some words in bold."""
    return re.sub(rf"({'|'.join(words)})", r"**\1**", PLAIN) if words else PLAIN


@pytest.mark.parametrize(
    ("right", "wrong"), [("harbour", "grain"), ("valley", "copper"), ("valley", "beneath")]
)
def test_right_marks_among_wrong_ones_do_not_pay(right, wrong):
    texts = [bold(), bold(right), bold(wrong), bold(right, wrong)]
    none, one, other, both = score("edit_distance", texts, references=[MARKED] * 4)
    assert other < none < one
    assert both <= none
    assert score("edit_distance", [MARKED], references=[MARKED]) == [1.0]


def test_marks_of_a_misread_word_are_read():
    texts = [MARKED.replace("harbour", "harbonr"), MARKED.replace("**harbour**", "harbonr")]
    with_marks, without = score("edit_distance", texts, references=[MARKED] * 2)
    assert with_marks > without


def test_a_copy_of_the_page_in_its_head_is_not_read():
    head = "---\nprimary_language: en\n---\n"
    one, two = "Grain was sold until late winter.", "A survey found copper in the old quarry."
    for said in (f"{two}\n\n{one}", one, ""):
        texts = [head + said, head.replace("en\n", f"en\nnote: {one} {two}\n") + said]
        honest, more = score("edit_distance", texts, references=[f"{head}{one}\n\n{two}"] * 2)
        assert more <= honest


def test_edit_distance_by_hand():
    # "kitten" -> "sitting": delete k e, insert s i g = 5 edits of 13 characters
    kitten = page("kitten")
    plain = value_of("edit_distance", kitten, group("sitting", "kitten", ""), compat=True)
    assert [r.value for r in plain] == [pytest.approx(1 - 5 / 13), 1.0, 0.0]
    # strict: "i", "tt" and "n" of six letters are read, and seven letters stand for those six
    texts = ["sitting", "kitten", ""]
    assert score("edit_distance", texts, references=["kitten"] * 3) == [4 / 6, 1.0, 0.0]
    assert score("edit_distance", [""], references=[""]) == [1.0]


def test_medoid_by_hand():
    # distances: a-b 1, a-c 3, b-c 3, and everything 4 from "zzzz"; totals 8, 8, 10, 12
    values = score("medoid", ["aaaa", "aaab", "abcd", "zzzz"])
    assert values == [1.0, 1 - 1 / 4, 1 - 3 / 4, 0.0]
    assert score("medoid", []) == []
    assert score("medoid", ["alone"]) == [1.0]
    assert score("medoid", ["x", "x"]) == [1.0, 1.0]


def test_medoid_counts_copies():
    # "b" has two copies: its total is 2 x 1, less than the 3 of each single text
    assert score("medoid", ["axx", "bxx", "bxx", "cxx"]) == [0.0, 1.0, 1.0, 0.0]


def test_front_matter_counts_equal_fields():
    wrong = HEAD.replace("en", "de").replace("correction: 0", "correction: 90")
    texts = [HEAD, HEAD + "other body", wrong, "no head", "", HEAD.replace("is_table", "table")]
    the_page = page(HEAD + "body")
    results = value_of("front_matter", the_page, group(*texts))
    assert [r.value for r in results] == pytest.approx([1.0, 1.0, 0.8, 0.0, 0.0, 0.0])
    assert results[2].parts == {
        "readable": 1.0,
        "primary_language": 0.0,
        "is_rotation_valid": 1.0,
        "rotation_correction": 0.0,
        "is_table": 1.0,
        "is_diagram": 1.0,
    }
    assert [r.value for r in value_of("front_matter", page(), group(HEAD))] == [0.5]


def test_front_matter_takes_the_word_none_for_null_by_default():
    null, none = HEAD.replace(": en", ": null"), HEAD.replace(": en", ": None")
    assert score("front_matter", [none], references=[null]) == [1.0]
    assert score("front_matter", [none], references=[null], compat=True) == [pytest.approx(0.9)]


def test_element_count():
    reference = "<table><tr><td>1</td></tr></table> \\(a\\) and $$b$$"
    texts = [
        "<TABLE border=1>x</TABLE> \\[a\\] \\(b\\)",
        "<table></table> \\(a\\)",
        "$$a$$ $$b$$",
        "<table> \\(never closed",
        "$$$$ <table>x</table> \\(c\\)",
    ]
    assert score("element_count", texts, references=[reference] * 5) == [1.0, 0.0, 0.5, 0.0, 0.5]


def test_eos_by_id_or_finish_reason():
    ended, cut = completion("a"), completion("a", finish_reason="length")
    wrong_end = completion("a", token_ids=[5, 6])
    empty = completion("", token_ids=[])
    four = [ended, cut, wrong_end, empty]
    assert [r.value for r in value_of("eos", page(), four)] == [1.0, 0.0, 1.0, 0.0]
    by_id = value_of("eos", page(), four, end_id=END_ID)
    assert [r.value for r in by_id] == [1.0, 0.0, 0.0, 0.0]


def test_eos_of_text_alone_is_refused():
    with pytest.raises(ValueError, match="needs token ids"):
        score("eos", ["text"])


def test_rect_tables():
    good = "<table><tr><td>1<td>2<tr><td colspan=2>3</table>"
    bad = "<table><tr><td>1</td><td>2</td></tr><tr><td>3</td></tr></table>"
    texts = [good, bad, good + bad, "| a | b |\n|---|---|\n| 1 |", ""]
    assert score("rect_tables", texts) == [1.0, 0.0, 0.5, 1.0, 1.0]


ROWS = [
    test_row("present", "p1", text="alpha beta"),
    test_row("present", "p2", text="gamma"),
    test_row("present", "p3", text="delta"),
    test_row("absent", "a1", text="page 12"),
]
FILES = ["x.jsonl", "x.jsonl", "y.jsonl", "y.jsonl"]
BODY = "alpha beta gamma and some more words to be read"


def test_bench_micro_macro_types_and_parts():
    the_page = page(HEAD + BODY, ROWS, FILES)
    (micro,) = value_of("bench", the_page, group(HEAD + BODY))
    assert micro.value == 0.75
    assert micro.parts == {
        "type/present": pytest.approx(2 / 3),
        "type/absent": 1.0,
        "file/x.jsonl": 1.0,
        "file/y.jsonl": 0.5,
    }
    assert [(v.test_id, v.type, v.file, v.passed) for v in micro.verdicts] == [
        ("p1", "present", "x.jsonl", True),
        ("p2", "present", "x.jsonl", True),
        ("p3", "present", "y.jsonl", False),
        ("a1", "absent", "y.jsonl", True),
    ]
    (macro,) = value_of("bench", the_page, group(BODY), average="macro")
    assert macro.value == pytest.approx((2 / 3 + 1) / 2)
    (present,) = value_of("bench", the_page, group(BODY), types=["present"])
    assert present.value == pytest.approx(2 / 3)
    assert len(present.verdicts) == 3


def test_bench_looks_at_the_body_and_in_compat_mode_at_everything():
    rows = [test_row("present", text="primary_language")]
    assert score("bench", [HEAD + BODY], cases=rows) == [0.0]
    assert score("bench", [HEAD + BODY], cases=rows, compat=True) == [1.0]


def test_bench_takes_loaded_cases_and_json():
    rows = [test_row("present", text="alpha")]
    for cases in (rows, [json.dumps(rows[0])], [load_case(rows[0])]):
        assert score("bench", ["alpha", "omega"], cases=cases) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (test_row("present", "bad", txt="x"), "did you mean 'text'"),
        (test_row("presence", "bad", text="x"), "presence"),
        (test_row("math", "bad", math="\\frac{1"), "cannot be rendered"),
    ],
)
def test_a_broken_test_makes_the_page_unscorable_instead_of_shrinking_it(row, words):
    the_page = page(HEAD + BODY, [*ROWS, row], [*FILES, "z.jsonl"])
    with pytest.raises(UnscorablePage, match="bad") as error:
        value_of("bench", the_page, group(BODY))
    assert words in str(error.value)
    assert "z.jsonl" in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("bench", {}, "no unit tests"),
        ("edit_distance", {}, "no reference text"),
        ("element_count", {}, "no reference text"),
    ],
)
def test_what_is_missing_is_said(name, options, words):
    with pytest.raises(ValueError, match=words):
        score(name, ["text"], options=options)
    filtered = {"types": ["math"]}
    with pytest.raises(ValueError, match=r"no unit test of type \['math'\]"):
        score("bench", ["text"], cases=ROWS, options=filtered)


def test_completions_must_be_texts():
    with pytest.raises(ValueError, match="completion 1 is a int"):
        score("medoid", ["a", 5])
    with pytest.raises(ValueError, match="must be a list of texts"):
        score("medoid", "abc")


@pytest.mark.parametrize("case", ["{bad", "[1]"])
def test_a_case_that_is_no_json_object_is_shown(case):
    with pytest.raises(ValueError, match="JSON") as error:
        score("bench", ["a"], cases=[case])
    assert case in str(error.value)


@pytest.mark.skipif(not ORACLE.exists(), reason="the oracle files are not beside this checkout")
def test_compat_mode_gives_the_public_codes_values():
    seen = set()
    with gzip.open(ORACLE, "rt", encoding="utf-8") as lines:
        for line in lines:
            case = json.loads(line)
            given = {"references": case["references"], "cases": case.get("tests"), "compat": True}
            assert score(case["reward"], case["completions"], **given) == case["result"]
            if "result_macro" in case:
                given["options"] = {"average": "macro"}
                assert score(case["reward"], case["completions"], **given) == case["result_macro"]
            seen.add(case["reward"])
    assert seen == {
        *("bench", "edit_distance", "element_count", "front_matter", "medoid", "rect_tables")
    }


def test_failed_results_are_nan_and_counted_out():
    (result,) = value_of("eos", page(), [completion("a", token_ids=[])])
    assert result.failed
    assert math.isnan(result.value)


PROSE = "The harbour was dredged in the winter of 1847 by the surveyors of the northern district."
TABLE = "<table><tr><td>grain</td><td>42</td></tr><tr><td>timber</td><td>88</td></tr></table>"


@pytest.mark.parametrize(
    ("truth", "read", "added"),
    [
        (r"for \(x\) and \(y + 1 = 2z\) only", r"for x and \(y + 1 = 2z\) only", r"\(q\)"),
        (r"for \(x\) and \(y + 1 = 2z\) only", r"for x and \(y + 1 = 2z\) only", "$$q$$"),
        ("<table><tr><td>7</td></tr></table>", "7", "<table><tr><td>q</td></tr></table>"),
        ("<table><tr><td>7</td></tr></table>", "7", "<table></table>"),
        (TABLE, TABLE.replace("</table>", ""), "<table><tr><td>q</td></tr></table>"),
    ],
)
def test_a_filler_element_makes_up_for_no_lost_one(truth, read, added):
    reference = f"{PROSE}\n\n{truth}\n\n{PROSE[::-1]}"
    honest = reference.replace(truth, read)
    values = score(
        "element_count", [honest, f"{honest}\n\n{added}", reference], references=[reference] * 3
    )
    assert values == [0.5, 0.5, 1.0]


@pytest.mark.parametrize(
    "attack",
    [
        lambda text: text + "\n\n" + TABLE,
        lambda text: text.replace("<table>", "<table><tr><td><table>") + "</td></tr></table>",
    ],
)
def test_a_second_table_makes_none_of_the_first_rectangular(attack):
    reference = f"{PROSE}\n\n{TABLE}"
    honest = reference.replace("<td>88</td>", "")
    values = score("rect_tables", [honest, attack(honest), reference], references=[reference] * 3)
    assert values == [0.0, 0.0, 1.0]
