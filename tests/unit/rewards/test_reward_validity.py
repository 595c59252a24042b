"""The validity reward: each check by hand, and what must not pay."""

import pytest
from reward_pages import HEAD, group, page
from test_reward_values import value_of

from olmrl.rewards.open_marks import count_open_marks

TABLE = "<table><tr><td>salt</td><td>1812</td></tr><tr><td>rye</td><td>1813</td></tr></table>"
BODY = f"# Tax\n\nThe **salt** tax of this year was \\(x^2\\) and $5.\n\n{TABLE}\n\nIt fell $$ y $$"


def validity(text, reference=None):
    [result] = value_of("validity", page(reference), group(text))
    return result


def test_what_is_in_order_scores_one():
    for text in ("", "text", BODY, HEAD + BODY, "| a | b |\n|---|---|\n| 1 | 2 |"):
        assert validity(text).value == 1.0
        assert validity(text, text).value == 1.0
    assert validity(HEAD + BODY, HEAD + BODY.replace("tax", "Tax")).value == 1.0


@pytest.mark.parametrize(
    ("check", "text", "share"),
    [
        ("head", "---\nprimary_language: [\n---\n" + BODY, 0),
        ("head", "---\n" + BODY, 0),
        ("tables", BODY.replace("</table>", ""), 1 / 2),
        ("tables", BODY + "</table><table>", 1 / 3),
        ("tables", BODY.replace("<td>rye</td>", ""), 1 / 2),
        ("tables", BODY + "\n\n| a | b |\n|---|---|\n| 1 |", 1 / 2),
        ("tables", BODY + "<table></table>", 1 / 2),
        ("formulas", BODY.replace("x^2", r"\frac{x"), 1 / 2),
        ("formulas", BODY.replace("x^2", "x^^2").replace("y", r"\nosuch"), 1 / 3),
        ("marks", BODY + " **bold", 1 / 2),
        ("marks", BODY + "\n```\ncode", 1 / 2),
        ("marks", BODY + " <b>bold <i>both</b>", 1 / 2),
        ("marks", BODY + r" \(x \[y", 1 / 3),
        ("marks", BODY + " $$", 1 / 2),
    ],
)
def test_each_fault_by_hand(check, text, share):
    result = validity(text)
    expected = {"head": 1.0, "tables": 1.0, "formulas": 1.0, "marks": 1.0, check: share}
    assert result.parts == pytest.approx(expected)
    assert result.value == pytest.approx((3 + share) / 4)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("a $x$ and $5, $6 and $7", 0),
        ("a $x and b", 1),
        ("2 ** 3", 1),
        ("* * *\n***\n\n** a **\n\n\\*\\* b", 0),
        (r"\(a ** b < c\) <br> <img src='x'/> <x> 1 < 2 > 1", 0),
        ("```\n<b> ** $$ \\(\n```", 0),
        ("<td>a<td>b</p>", 3),
        ("<!-- a", 1),
        (r"\) \( \( x \) \)", 3),
    ],
)
def test_open_marks_by_hand(text, number):
    assert count_open_marks(text) == number


def test_leaving_a_broken_table_or_formula_out_does_not_pay():
    for broken in (BODY.replace("</table>", ""), BODY.replace("x^2", r"\frac{x")):
        for gone in (TABLE, TABLE.replace("</table>", ""), r"\(x^2\)", r"\(\frac{x\)"):
            assert validity(broken.replace(gone, ""), BODY).value <= validity(broken, BODY).value


def test_invented_elements_do_not_stand_for_missing_ones():
    lost = BODY.replace(TABLE, "").replace(r"\(x^2\)", "")
    invented = lost + TABLE.replace("salt", "a").replace("rye", "b").replace("181", "9")
    assert validity(lost, BODY).value == pytest.approx((1 + 1 / 2 + 2 / 3 + 1) / 4)
    assert validity(invented, BODY).value <= validity(lost, BODY).value
    assert validity(lost + r" \(\alpha+\beta\)", BODY).value <= validity(lost, BODY).value


def test_a_page_that_is_not_read_is_not_in_order():
    assert validity("", BODY).value == 0.0
    assert validity("all in good form", BODY).value == 0.0
    filler = " ".join(f"word{number}" for number in range(90))
    assert validity(BODY + filler, BODY).value < 0.5


def test_a_head_is_needed_where_the_reference_has_one():
    assert validity(BODY, HEAD + BODY).parts["head"] == 0.0
    assert validity(BODY, BODY).parts["head"] == 1.0


def test_faults_of_the_reference_are_not_held_against_a_reading():
    odd = r"2 ** 3 and \( \nosuch \) and | a |" + "\n" + "<table><tr><td>1</td></tr>"
    assert validity(odd, odd).value == 1.0


def test_markup_too_large_to_read_scores_nothing():
    # one huge span is what browsers make of it; these are more slots than any table has
    assert validity("<table><tr>" + "<td colspan=900000000>" * 600 + "</table>").value == 0.0
    assert validity(r"\(x\)" * 2001).value == 0.0
