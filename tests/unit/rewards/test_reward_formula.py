"""The formula reward: hand-computed values, and pairs against all possible ones."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_pages import group, page
from test_reward_values import value_of

from olmrl.rewards import score
from olmrl.rewards.formula import unpaired
from olmrl.rewards.formula_look import look_of, looks_the_same, typeset

TRUTH = r"By \(x^2 + 1\) and \[ \frac{a}{b} \] and $x^2+1$, we have $$ \sqrt{y} $$."


def formula(text, reference=TRUTH):
    [result] = value_of("formula", page(reference), group(text))
    return result.value, result.parts


@pytest.mark.parametrize(
    ("text", "pairs", "said"),
    [
        (TRUTH, 4, 4),
        (r"\[ x^{2}+1 \] \(\dfrac{a}{b}\) \(x^2+1\) \(\sqrt y\)", 4, 4),
        (r"\( x^2 + 1 \) \( \frac{a}{b} \)", 2, 2),
        (r"\( \frac{b}{a} \) \( x_2 + 1 \) \(x^2 - 1\)", 0, 3),
        (r"\( x^2+1 \quad \frac{a}{b} \quad \sqrt{y} \)", 0, 1),  # all in one: parts do not count
        (r"\(x^2\) \(1\)", 0, 2),
        ("no formula", 0, 0),
    ],
)
def test_by_hand(text, pairs, said):
    value, parts = formula(text)
    assert value == pytest.approx(2 * pairs / (said + 4))
    assert parts["recall"] == pairs / 4
    assert parts.get("precision", 0) == (pairs / said if said else 0)


def test_each_formula_more_than_there_are_stands_for_one_that_was_read():
    value, parts = formula(TRUTH + r" \(z\) \(z\) $$ \sqrt{y} $$")
    assert value == pytest.approx(2 * 1 / (4 + 4))
    assert parts["recall"] == 1.0
    assert parts["precision"] == 4 / 7


def test_a_formula_that_cannot_be_typeset_is_one_too_many():
    value, parts = formula(TRUTH + r" \( \frac{a \)")
    assert value == pytest.approx(6 / 8)
    assert parts == {"recall": 1.0, "precision": 0.8, "valid": 0.8}


def test_left_out_without_formulas():
    for reference in ("none", r"\( \frac{ \)", "$$ $$"):
        with pytest.raises(ValueError, match="formula: the reference has no formula"):
            score("formula", ["x"], references=[reference])
    with pytest.raises(ValueError, match="the page has no reference text"):
        score("formula", ["x"])
    assert score("formula", ["x"], compat=True) == [0.0]


def test_too_many_formulas_score_nothing():
    many = "".join(rf"\({number}\)" for number in range(2001))
    long = "".join(rf"\(x{' ' * number}+y\)" for number in range(250))
    for text in (many, long):
        assert formula(TRUTH + text) == (0.0, {"too_many": 1.0})
        with pytest.raises(ValueError, match="the reference has too many formulas"):
            score("formula", ["x"], references=[text])


def same(one, other):
    broken = any(typeset(latex).error for latex in (one, other))
    return not broken and looks_the_same(look_of(one), look_of(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\frac{a}{b}", r"a \over b"),
        (r"\left( x \right)", "(x)"),
        (r"\left[\frac12\right]", r"\Bigl[ \frac{1}{2} \Bigr]"),
        (r"\int x\,dx", r"\int x dx"),
        (r"\sum_{i=1}^n i", r"\sum\limits^{n}_{i=1} i"),
        (r"\text{for } x", r"\mathrm{for}\; x"),
        (
            r"\begin{pmatrix} a & b \\ c & d \end{pmatrix}",
            r"\left(\begin{matrix}a&b\\c&d\end{matrix}\right)",
        ),
        (r"a \ne b", r"a \neq b"),
    ],
)
def test_spellings_that_look_the_same(one, other):
    assert same(one, other)
    assert same(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x^2", "x_2"),
        ("x^2", "x2"),
        ("x^2 y", "x y^2"),
        ("x y", "y x"),
        ("x", r"\sqrt{x}"),
        ("x", r"\overline{x}"),
        ("AB", r"\overrightarrow{AB}"),
        ("x", r"\boxed{x}"),
        (r"\boxed{x}", r"\cancel{x}"),
        ("ab", r"a \phantom{b}"),
        (r"\frac{a}{b}", r"\frac{b}{a}"),
        (r"\frac{a}{b}", r"{a \atop b}"),
        (r"\frac{1}{2+x}", r"\frac{1}{2}+x"),
        ("a+b", "a-b"),
        ("x+y+z", "x+y"),
    ],
)
def test_formulas_that_do_not(one, other):
    assert not same(one, other)
    assert not same(other, one)


FORMS = ["x+y", "x + y", "{x}+{y}", "y+x", r"\frac{1}{2}", r"\frac12", r"\bad{", "x"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(FORMS), max_size=5),
    st.lists(st.sampled_from([form for form in FORMS if "bad" not in form]), max_size=5),
)
def test_pairs_are_the_most_of_all_ways_to_pair(mine, true):
    short, long = sorted((mine, true), key=len)
    best = max(
        sum(a == b or same(a, b) for a, b in zip(short, way, strict=True))
        for way in itertools.permutations(long, len(short))
    )
    counts = [{latex: side.count(latex) for latex in side} for side in (mine, true)]
    _, missing = unpaired(*counts)
    assert len(true) - missing.total() == best


WRONG = {r"x^2 + 1": r"x^3 + 1", r"\frac{a}{b}": r"\frac{a}{d}", r"\sqrt{y}": r"\sqrt{v}"}


@pytest.mark.parametrize(("right", "wrong"), WRONG.items())
def test_the_right_formula_beside_a_wrong_one_does_not_pay(right, wrong):
    for place in (right, f"\\) and \\({right}"):
        honest, _ = formula(TRUTH.replace(right, wrong))
        beside, parts = formula(TRUTH.replace(right, wrong) + rf" \({place}\)")
        assert beside <= honest
        assert parts["recall"] >= 3 / 4  # as it is read, without that condition


UNLIKE = [r"\alpha \leq \beta_7", r"\frac{a}{b", r"\frac{1}{2 + x}"]
RIGHT = [r"\frac{m}{V} = \rho", r"\frac{a}{b}", r"\frac{1}{2} + x"]


@pytest.mark.parametrize(("wrong", "right"), zip(UNLIKE, RIGHT, strict=True))
@pytest.mark.parametrize("form", [r"\({0}\) \({1}\)", r"\({1}\) \({0}\)", "\\({0}\\)\n\n\\[{1}\\]"])
def test_nor_beside_one_that_is_unlike_broken_or_of_the_same_symbols(wrong, right, form):
    truth = rf"It is known that \({right}\) holds, and so \(y = 2\)."
    honest, _ = formula(truth.replace(right, wrong), truth)
    both, parts = formula(truth.replace(rf"\({right}\)", form.format(wrong, right)), truth)
    assert both <= honest
    assert parts["recall"] == 1.0


@pytest.mark.parametrize("more", [0, 1, 3])
def test_leaving_out_a_right_formula_never_pays(more):
    invented = " ".join(rf"\({number}\)" for number in range(more))
    values = [
        formula(text + invented)[0]
        for text in (TRUTH, TRUTH.replace(r"\[ \frac{a}{b} \]", ""), r"\(x^2 + 1\)", "")
    ]
    assert values == sorted(values, reverse=True)


def test_a_formula_that_resembles_a_missing_one_takes_nothing_from_others():
    truth = r"\(x_1 = 5\) and \(x_2 = 5\) and \(\alpha\)"
    value, _ = formula(r"\(x_7 = 5\) and \(x_2 = 5\) and \(\alpha\)", truth)
    assert value == pytest.approx(2 * 2 / (3 + 3))
