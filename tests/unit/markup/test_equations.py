"""Formulas: what renders, what is equivalent to what, limits, cache and the browser cross-check."""

import shutil
import subprocess
import sys

import pytest

from olmrl.markup.equation_cache import EquationCache
from olmrl.markup.equations import equivalent, extract_formulas, render
from olmrl.markup.katex_engine import render_formula
from olmrl.markup.latex import readable
from olmrl.markup.symbol_match import Arrangement, Symbol, contains
from olmrl.markup.text import WorkLimitError


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLMRL_CACHE", str(tmp_path_factory.mktemp("equations")))
        yield


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        (r"a \(x\) b \[ y \] c $$z$$ d $w$ e", ["x", "y", "z", "w"]),
        (r"$a$ then \(b\)", ["b", "a"]),
        ("$5 and 6$ and $7", ["5 and 6"]),
        (r"\(a\(b\) c\)", [r"a\(b"]),
        (r"\( never closed", []),
        ("$$ x\n\ny $$", ["x\n\ny"]),
        ("", []),
    ],
)
def test_extract_formulas_in_compat(text, formulas):
    assert extract_formulas(text, compat=True) == formulas


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        (r"a \(x\) b \[ y \] c $$z$$ d $w$ e", ["x", "y", "z", "w"]),
        (r"$a$ then \(b\)", ["a", "b"]),
        (r"\(a\(b\) c\)", [r"a\(b"]),
        (r"\( never closed, $x$", ["x"]),
        (r"$$ a \\[2pt] b $$ \[c\]", [r"a \\[2pt] b", "c"]),
        ("$$ x\n\ny $$", ["x\n\ny"]),
        ("cash $$ is\n\nking $$ and $x$", ["x"]),
        ("$x$$y$ $$x$", ["x", "y", "x"]),
        # escapes, code
        ("It costs \\$5.\n\nThe area is $x^2$.", ["x^2"]),
        ("`$HOME` and $x$ `$5`", ["x"]),
        ("```\n$HOME\n```\n$x$", ["x"]),
        ("```markdown\n$x$\n```", ["x"]),
        # money
        ("$5 and $x^2$", ["x^2"]),
        ("$ 5 and $x$", ["x"]),
        ("$HOME is set. $x^2$", ["x^2"]),
        ("a lone $ and $x$", ["x"]),
        ("costs 5$ and $x^2$", ["x^2"]),
        ("costs 5$ ($x$)", ["x"]),
        ("US$5 and A$6, $x$", ["x"]),
        ("$5-$10, $5/$6, **$5** or **$6** and $x$", ["x"]),
        ("$100 million in 2020, 50% of $200 million, $x$", ["x"]),
        ("$3.50 + $4.25 = $7.75, $x$", ["x"]),
        ("$5\n\n$x$", ["x"]),
        ("|$5|$6|$x$|", ["x"]),
        ("<td>$HOME</td><td>$5</td><td>$x$</td>", ["x"]),
        # and what only looks like it
        (r"5 $\times$10 $\alpha$2 $2$nd $n$th", [r"\times", r"\alpha", "2", "n"]),
        ("$ x^2 $ and $y $ and $ z$", ["x^2", "y", "z"]),
        ("$5$ apples, $2x + 3$, $10 < x$, $\\$5$", ["5", "2x + 3", "10 < x", "\\$5"]),
    ],
)
def test_extract_formulas(text, formulas):
    assert extract_formulas(text) == formulas


def test_dollars_are_optional():
    assert extract_formulas(r"\(a\) $b$ $$c$$", dollars=False) == ["a"]


def test_extraction_is_linear():
    for unit in (r"\(", r"\[", "$$", "$ ", r"\)", "$a ", "`$", "$$\n\n", "<td>$"):
        extract_formulas(unit * 100_000)
        extract_formulas(unit * 300_000, compat=True)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (r"E = mc^2 \label{eq:e} \eqno(3)", "E = mc^2"),
        (r"x \leqno{(2)}", "x"),
        (r"x = y \tag{4} \nonumber", "x = y"),
        (r"x = y \tag*{$\star$}", "x = y"),
        (r"\mbox{if } x \hfill y", r"\text{if } x \quad y"),
        (
            r"\begin{eqnarray} a&=&b \label{a}\\ c&=&d \end{eqnarray}",
            r"\begin{align}a&=b\\c&=d\end{align}",
        ),
        (r"\begin{multline*}a+b\\c\end{multline*}", r"\begin{gather}a+b\\c\end{gather}"),
        (r"\mathbbm{1}_A \nicefrac{1}{2}", r"\mathbb{1}_A 1/2"),
        (r"20\,^\circ C", r"20\,{}^\circ C"),
        # chemistry
        (r"\ce{H2O}", "H_2O"),
        (r"\ce{SO4^2-}", r"\mathrm{SO_4^{2-}}"),
        (r"\ce{Na+ + Cl- -> NaCl}", r"\mathrm{Na^+ + Cl^- \rightarrow NaCl}"),
        (r"\ce{1/2 O2 <=> O}", r"\frac{1}{2} O_2 \rightleftharpoons O"),
        (r"\ce{A ->[heat] B}", r"A \xrightarrow{heat} B"),
        (r"\ce{^{227}_{90}Th+}", r"{}^{227}_{90}Th^+"),
        (r"\ce{[Ag(NH3)2]+}", "[Ag(NH_3)_2]^+"),
        (r"\ce{CuSO4.5H2O}", r"CuSO_4 \cdot 5 H_2O"),
        (r"\ce{HC#C-CH=CH2}", r"HC\equiv C-CH=CH_2"),
        (r"\ce{OH-(aq)}, \ce{Fe^{III}}", r"OH^-(aq), Fe^{III}"),
        # units
        (r"\SI{9.81}{\metre\per\second\squared}", r"9.81\,\mathrm{m\,s^{-2}}"),
        (r"\qty[per-mode=power]{9.81}{\metre\per\square\second}", r"9.81\,\mathrm{m\,s^{-2}}"),
        (r"\SI{5}{kg.m/s}", r"5\,\mathrm{kg\,m/s}"),
        (r"\num{1.5e-3}, \ang{30;15}", r"1.5\times 10^{-3}, 30^\circ 15'"),
        (r"\SI{20}{\celsius}, \SI{4}{\kilo\ohm}", r"20\,{}^\circ C, 4\,k\Omega"),
        (r"\unit{\um}, \pu{5 kg m-2}", r"\mu m, 5\,kg\,m^{-2}"),
        (r"\SIrange{1}{2}{\metre}", r"1\,m\text{ to }2\,m"),
    ],
)
def test_latex_that_katex_does_not_know_is_read_by_rule(written, shown):
    assert not render(shown).error
    assert equivalent(shown, written)
    assert equivalent(written, shown)


def test_rules_neither_hide_a_difference_nor_repair_what_is_broken():
    assert not equivalent(r"\ce{H2O}", r"\ce{H3O}")
    assert not equivalent(r"\SI{5}{kg}", r"\SI{6}{kg}")
    assert not equivalent(r"\ce{SO4^2-}", r"\ce{SO4}")
    for broken in (r"\mbox{x", r"\ce{H2O", r"\SI{5}", r"}\tag{1}{", r"\unknowncommand{\label{a}}"):
        assert render(readable(broken)).error, broken
    assert readable(r"a \\tag{x}") == r"a \\tag{x}"
    assert readable("\\mbox{" * 1000 + "}" * 1000)


def test_compat_takes_latex_as_it_is():
    assert not equivalent("x", r"x \label{a}", compat=True)
    assert equivalent("x", r"x \label{a}")


def test_a_fraction_is_laid_out():
    rendered = render(r"\frac{a}{b}")
    assert rendered.mathml == "<mrow><mfrac><mi>a</mi><mi>b</mi></mfrac></mrow>"
    by_text = {symbol.text: symbol for symbol in rendered.symbols}
    top, bottom = by_text["a"], by_text["b"]
    centers = [symbol.x + symbol.width / 2 for symbol in rendered.symbols]
    assert centers[0] == pytest.approx(centers[1], abs=0.5)
    assert top.y + 10 < bottom.y


def test_scripts_sit_above_and_below_to_the_right():
    by_text = {symbol.text: symbol for symbol in render("x^2_3").symbols}
    base, upper, lower = (by_text[text] for text in "x23")
    assert upper.y < base.y < lower.y
    assert min(upper.x, lower.x) >= base.x + base.width - 1


def test_the_two_fonts_measure_differently():
    widths = {fonts: render("M", fonts=fonts).symbols[0].width for fonts in ("katex", "serif")}
    em = 24 * 1.21
    assert widths["katex"] == pytest.approx(1.05 * em - 0.109 * em, abs=4)
    assert widths["katex"] != widths["serif"]


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        ("a^2", "a^{2}"),
        ("a+b", "x=a+b"),
        ("a+b", "a+b+c"),
        (r"\frac{a}{b}", r"\frac ab"),
        (r"\dfrac{a}{b}", r"\frac{a}{b}"),
        (r"\sum_{i=1}^n i", r"\sum_{i=1}^{n}i"),
        (r"a\,b", "ab"),
        (r"\mathrm{sin}\,x", r"\sin x"),
        ("x_1^2", "x^2_1"),
        (r"\begin{aligned}a&=b\\c&=d\end{aligned}", r"\begin{aligned}a&=b\\c&=d\end{aligned}+1"),
        (r"\unknown", r"\unknown"),
    ],
)
@pytest.mark.parametrize("compat", [False, True])
def test_equivalent(reference, hypothesis, compat):
    assert equivalent(reference, hypothesis, compat=compat)


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        ("a+b", "a"),
        ("a^2+1", "a2+1"),
        ("a^{23}", "a^{32}"),
        (r"\frac{a}{b}", r"\frac{b}{a}"),
        ("a-b", "a+b"),
        ("x", "y"),
        (r"\sum_i x_i", r"\prod_i x_i"),
        ("x", r"\unknown{x}"),
        ("x", ""),
    ],
)
@pytest.mark.parametrize("compat", [False, True])
def test_not_equivalent(reference, hypothesis, compat):
    assert not equivalent(reference, hypothesis, compat=compat)


def test_default_and_compat_differ_on_references_that_show_nothing():
    assert equivalent(r"\undefined", "x", compat=True)
    assert not equivalent(r"\undefined", "x")
    assert equivalent(r"\quad", "y", compat=True)
    assert not equivalent(r"\quad", "y")


def test_all_symbols_once_is_not_every_formula():
    everything = "a b c + - = 1 2 x y ( )"
    assert not equivalent("a+b=c", everything)
    assert not equivalent(r"\frac{a+b}{c}", everything)


HOSTILE = {
    "open braces": "{" * 5000,
    "nested braces": "{" * 4000 + "x" + "}" * 4000,
    "nested scripts": "x^{" * 2000 + "x" + "}" * 2000,
    "nested fractions": r"\frac{1}{" * 900 + "x" + "}" * 900,
    "endless macro": r"\def\a{\a\a}\a",
    "exploding macro": r"\def\a#1{" + "#1" * 30 + r"}\a{\a{\a{\a{\a{x}}}}}",
    "many columns": r"\begin{array}{c}" + "&" * 3000 + r"\end{array}",
    "many symbols": "x+" * 4999,
    "huge length": r"\hspace{" + "9" * 400 + "em}x",
    "lone surrogate": "\ud800 + \x00",
    "too long": "x" * 20_000,
    "script": r"\href{javascript:alert(1)}{x}",
    "new command": r"\gdef\frac{boom}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_formulas_end(name):
    rendered = render(HOSTILE[name])
    assert rendered.error or len(rendered.symbols) <= 5000
    rendered.error.encode()
    assert not render(r"\frac{a}{b}").error


def test_nothing_leaks_from_one_formula_to_the_next():
    render_formula(r"\gdef\leak{x}\leak", "katex")
    assert "Undefined control sequence" in render_formula(r"\leak", "katex")["error"]


def test_unknown_renderer_is_refused():
    with pytest.raises(ValueError, match="katex or chromium"):
        render("x", renderer="mathjax")


def boxes(*placed):
    return Arrangement([Symbol(text, x, y, 10.0 * len(text), 10.0) for text, x, y in placed])


def test_contains_needs_the_same_neighbors():
    row = boxes(("abc", 0, 0))
    assert contains(row, boxes(("ab", 0, 0)))
    assert contains(row, boxes(("a", 50, 80), ("b", 60, 80)))
    assert not contains(row, boxes(("ac", 0, 0)))
    assert not contains(row, boxes(("a", 0, 0), ("b", 0, 30)))
    assert not contains(row, boxes(("aa", 0, 0)))
    assert contains(boxes(("a\u00a0b", 0, 0)), boxes(("ab", 0, 0)))


def test_contains_backtracks_over_equal_symbols():
    hypothesis = boxes(("ab", 0, 0), ("ac", 0, 100), ("ad", 0, 200))
    assert contains(hypothesis, boxes(("ad", 0, 0)))
    assert not contains(hypothesis, boxes(("ad", 0, 0), ("ad", 0, 100)))


def test_a_lone_script_has_no_neighbors():
    # The public rule: out of line by more than 5 px means unrelated, so both modes accept this.
    assert equivalent("a^2", "a_2")
    assert equivalent("a^2", "a_2", compat=True)


def test_contains_gives_up_on_an_endless_search():
    def isolated(text, count, y):
        return [(text, 40 * i, y + 40 * i) for i in range(count)]

    reference = boxes(*isolated("a", 12, 0), ("ab", 5000, 1000), ("ab", 6000, 2000))
    hypothesis = boxes(*isolated("a", 13, 0), ("ab", 5000, 1000), ("b", 6000, 2000))
    with pytest.raises(WorkLimitError):
        contains(hypothesis, reference)


def test_the_long_chain_that_stalls_backtracking():
    chain = "+".join(["a_{1}"] * 60)
    assert not equivalent(chain + "+b", chain + "-b")
    assert equivalent(chain, chain + "+1")


def test_cache_is_shared_between_processes(tmp_path, monkeypatch):
    script = "from olmrl.markup.equations import render; print(render('q+q').mathml)"
    outputs = set()
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", script],
            env={"OLMRL_CACHE": str(tmp_path), "PATH": "", "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.add(run.stdout)
    assert outputs == {"<mrow><mi>q</mi><mo>+</mo><mi>q</mi></mrow>\n"}
    import sqlite3

    (file,) = tmp_path.glob("*.sqlite")
    assert sqlite3.connect(file).execute("SELECT count(*) FROM equations").fetchone() == (1,)


def test_cache_keeps_the_newest(tmp_path, monkeypatch):
    monkeypatch.setattr("olmrl.markup.equation_cache.MAX_ROWS", 10)
    monkeypatch.setattr("olmrl.markup.equation_cache.TRIM_EVERY", 5)
    cache = EquationCache(tmp_path)
    for number in range(50):
        cache.put(bytes([number]), str(number))
    assert cache.get(bytes([49])) == "49"
    assert cache.get(bytes([0])) is None


def test_an_unusable_cache_costs_no_result(tmp_path, caplog):
    (tmp_path / "equations-1.sqlite").write_bytes(b"not a database" * 100)
    cache = EquationCache(tmp_path)
    cache.put(b"k", "v")
    assert cache.get(b"k") is None
    assert "is not used" in caplog.text
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert EquationCache(blocked / "below").get(b"k") is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium on the PATH")
@pytest.mark.parametrize(
    "latex",
    [
        r"\frac{a}{b}",
        r"\sum_{i=1}^n i^2 = \frac{n(n+1)}{2}",
        r"\begin{pmatrix} a & b \\ c & d \end{pmatrix}^{-1}",
        r"\sqrt[3]{1+\hat{x}}",
        r"\overbrace{x_1+\dots+x_n}^{n}",
    ],
)
def test_layout_agrees_with_a_browser(latex):
    pytest.importorskip("playwright", reason="needs the package playwright")
    ours = render(latex, fonts="serif")
    theirs = render(latex, fonts="serif", renderer="chromium")
    assert ours.mathml == theirs.mathml
    assert [s.text for s in ours.symbols] == [s.text for s in theirs.symbols]
    for mine, other in zip(ours.symbols, theirs.symbols, strict=True):
        assert mine.x - ours.symbols[0].x == pytest.approx(other.x - theirs.symbols[0].x, abs=2)
        assert mine.y - ours.symbols[0].y == pytest.approx(other.y - theirs.symbols[0].y, abs=2)
