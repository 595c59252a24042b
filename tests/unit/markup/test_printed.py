r"""What is read from a formula's LaTeX is what KaTeX shows of it, whatever its commands are."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmrl.markup.equations import as_set, equivalent, look_alike, render
from olmrl.markup.katex_engine import katex_asset
from olmrl.markup.printed import cannot_show, is_unreadable, printed
from olmrl.markup.symbol_match import contains

NAMES = sorted(set(re.findall(r"\\\\([A-Za-z]+)", katex_asset("katex.min.js"))))
SIGNS = dict(
    zip(
        "αβγδϵεζηθικλμνξπρστυϕφχψω∂∇∑∏",
        (
            *("alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta"),
            *("iota", "kappa", "lambda", "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon"),
            *("phi", "varphi", "chi", "psi", "omega", "partial", "nabla", "sum", "prod"),
        ),
        strict=True,
    )
)
SHAPES = (
    r"q \{}{{arg fj}}1em z",
    r"\begin{{matrix}}q \{}[1em] z\end{{matrix}}",
    r"x_{{\{} z}}^{{w}}",
)
WORDS = (
    *("x", "2", "ab", "+", "=", "(", ")", "{", "}", "_", "^", "&", r"\\", r"\,", r"\{", " ", "\n"),
    *(r"\frac", r"\sqrt", r"\text", r"\mathrm", r"\left(", r"\right)", r"\begin{matrix}"),
    *(r"\end{matrix}", r"\begin{cases}", r"\end{cases}", r"\begin{matri}", r"\operatorname"),
    *(r"\sin", r"\log", r"\arg", r"\sum", r"\alpha", r"\hat", r"\foo", "[1em]", "%", "\\"),
)


def shown(latex):
    """Counts of letters, digits and known signs by both renderers of KaTeX; None if it fails."""
    made = render(latex)
    if made.error:
        return None
    text = re.sub(r"<[^<>]*>|&[a-z]+;", "", made.mathml)
    kept = SIGNS | {char: char for char in map(chr, range(128)) if char.isalnum()}
    return [
        Counter(kept[c] for c in chars if c in kept)
        for chars in (text, "".join(s.text for s in made.symbols))
    ]


def check(latex):
    seen = shown(latex)
    if seen is None:
        return
    assert not is_unreadable(latex), latex
    told = printed(latex)
    if told is not None:
        for counts in seen:
            differs = {c for c in {*counts, *told.signs} if counts[c] != told.signs[c]}
            assert differs <= told.unsure, (latex, differs)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_command_of_katex_shows_what_is_told(shape):
    for name in NAMES:
        check(as_set(shape.format(name)))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=12).map("".join))
def test_any_formula_shows_what_is_told(latex):
    check(as_set(latex))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from((r"\frac{x}{2} + \alpha^2", r"\log x = \sum_{i} ab", r"\text{a b} \\ x")),
    st.integers(0, 30),
    st.sampled_from(("", *WORDS)),
    st.integers(0, 2),
)
def test_comparisons_are_what_rendering_would_say(reference, at, word, lost):
    changed = reference[:at] + word + reference[at + lost :]
    shows = [_shows(reference, changed), _shows(changed, reference)]
    assert [equivalent(reference, changed), equivalent(changed, reference)] == shows
    assert look_alike(reference, changed) == all(shows)


def _shows(reference, hypothesis):
    if reference == hypothesis:
        return True
    wanted, there = render(as_set(reference)), render(as_set(hypothesis))
    if wanted.error or there.error:
        return False
    same = wanted.mathml in there.mathml
    return same or (bool(wanted.symbols) and contains(there.arrangement, wanted.arrangement))


@pytest.mark.parametrize(
    ("hypothesis", "reference"),
    [
        ("x + y", "x + z"),
        (r"\frac{x}{2", "x"),
        (r"\frca{x}{2}", "x"),
        (r"\begin{matrx} x \end{matrx}", "x"),
        (r"\alpha x", r"\beta x"),
        ("x", r"\lgo x"),
    ],
)
def test_misread_formulas_are_found_out_without_rendering(hypothesis, reference):
    assert cannot_show(hypothesis, reference)


@pytest.mark.parametrize(
    ("hypothesis", "reference"),
    [
        (r"\log x", r"\operatorname{log} x"),
        (r"\def\foo{x}\foo", "x"),
        (r"\begin{array}{c} x \end{array}", "x"),
        (r"\\begin{foo} x", "b"),
        ("é", "e"),
        (r"x % \foo", "x"),
    ],
)
def test_what_is_not_certain_is_rendered(hypothesis, reference):
    assert not cannot_show(hypothesis, reference)
