"""Tests from truth: what is derived holds on the truth, and notices what it is about."""

import json
from pathlib import Path
from random import Random

import pytest
from reportlab.pdfgen.canvas import Canvas

from olmrl.bench import load_case, load_folder
from olmrl.data.page import scan_bench
from olmrl.suffixes import TWIN
from olmrl.synth.__main__ import main
from olmrl.synth.derived import candidates
from olmrl.synth.derived.folder import derive_folder
from olmrl.synth.derived.page_tests import Derived, _verified
from olmrl.synth.derived.true_pages import TruePage, find_pages
from olmrl.synth.proof.html_truth import read_html
from olmrl.synth.proof.reading import read

HEAD = (
    "---\nprimary_language: {}\nis_rotation_valid: True\nrotation_correction: 0\n"
    "is_table: False\nis_diagram: False\n---\n"
)

REPORT = """# Annual survey of mountain lakes

The survey covered forty lakes above the tree line. Water was sampled twice every year.<sup>2</sup>
Most of the lakes were **remarkably** clear, and *oligotrophic* conditions prevailed everywhere.

## Results

Phosphorus remained below 0.012 milligrams per litre. The balance is \\(P_{in} - P_{out} = 7\\) and
\\[\\int_0^1 x^2 \\, dx = \\frac{1}{3}\\]

<table><tr><th>Lake</th><th>Depth</th><th>Area</th></tr><tr><td>Upper</td><td>41</td><td>1.7</td></tr>
<tr><td>Lower</td><td>88</td><td>2.9</td></tr></table>
"""

LANGUAGES = {
    "ko": "# 서울의 역사\n\n서울은 대한민국의 수도이자 최대 도시이다. "
    "한강을 끼고 있으며 약 천만 명이 살고 있다.\n\n"
    "조선 왕조가 1394년에 이곳을 수도로 정하였다. 오늘날에는 금융과 문화의 중심지이다.",
    "zh": "# 北京简介\n\n北京是中华人民共和国的首都。它是全国的政治中心，也是文化中心。\n\n"
    "长城位于北京北部的山区，每年有大量游客前来参观。故宫建于1420年，是明清两代的皇宫。",
    "ar": "# القاهرة\n\nمدينة القاهرة هي عاصمة جمهورية مصر العربية. تقع على ضفاف نهر النيل.\n\n"
    "يسكنها ملايين الناس ويزورها السياح كل عام. تأسست المدينة سنة 969 ميلادية.",
    "fr": "# Le café des élèves\n\n"
    "À côté de la forêt, les garçons préfèrent l’hôtel où l’on dîne tôt.\n\n"
    "Le maître naïf reçut 1 250 francs à Noël. Les œuvres furent achevées après l’été.",
}


def write_pdf(path, lines, pages=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = Canvas(str(path), pagesize=(400, 600))
    for _ in range(pages):
        for y, text in lines:
            canvas.drawString(30, y, text)
        canvas.showPage()
    canvas.save()


def write_pair(folder, name, body, lines=((300, "body"),), language="en"):
    write_pdf(folder / f"{name}.pdf", lines)
    (folder / f"{name}.md").write_text(HEAD.format(language) + body, "utf-8")


def rows(out):
    return [
        json.loads(line)
        for path in sorted(out.glob("*.jsonl"))
        for line in path.read_text("utf-8").splitlines()
    ]


def by_type(out):
    found = {}
    for row in rows(out):
        found.setdefault(row["type"], []).append(row)
    return found


def test_a_rich_page_yields_all_types_and_they_hold(tmp_path):
    write_pair(tmp_path / "in", "a", REPORT, [(585, "Lakes today 2019"), (15, "page 7")])
    write_pair(tmp_path / "in", "b", "Second page.", [(585, "Lakes today 2020"), (15, "page 8")])
    report = derive_folder(str(tmp_path / "in"), str(tmp_path / "out"))
    found = by_type(tmp_path / "out")
    assert set(found) == {
        *("present", "absent", "order", "table", "math", "format", "footnote", "baseline")
    }
    mine = [row for row in rows(tmp_path / "out") if row["pdf"] == "pages/a.pdf"]
    assert all(load_case(row).run(HEAD.format("en") + REPORT).passed for row in mine)
    empty = [row["type"] for row in mine if load_case(row).run("").passed]
    assert set(empty) == {"absent"}
    assert {row["text"] for row in mine if row["type"] == "absent"} == {
        "Lakes today 2019",
        "page 7",
    }
    assert {row["math"] for row in found["math"]} == {
        "P_{in} - P_{out} = 7",
        "\\int_0^1 x^2 \\, dx = \\frac{1}{3}",
    }
    assert report["tests"] == len(rows(tmp_path / "out"))
    assert len({row["id"] for row in rows(tmp_path / "out")}) == report["tests"]


def test_the_result_is_a_bench_folder_with_references(tmp_path):
    write_pair(tmp_path / "in" / "deep", "doc_page3_page4", REPORT)
    derive_folder(str(tmp_path / "in"), str(tmp_path / "out"))
    (source,) = scan_bench(str(tmp_path / "out"))
    assert source.reference_path is not None
    assert REPORT.strip() in Path(source.reference_path).read_text("utf-8")
    assert sum(len(page.cases) for page in load_folder(tmp_path / "out").pages) == len(source.tests)


@pytest.mark.parametrize("language", LANGUAGES)
def test_any_language(tmp_path, language):
    body = LANGUAGES[language]
    write_pair(tmp_path / "in", "a", body, language=language)
    derive_folder(str(tmp_path / "in"), str(tmp_path / "out"))
    found = by_type(tmp_path / "out")
    assert set(found) >= {"present", "order", "format", "baseline"}
    assert len(found["present"]) >= 4
    assert all(load_case(row).run(body).passed for row in rows(tmp_path / "out"))
    # what is asked for is said by nobody who did not read the page
    other = LANGUAGES["zh" if language == "ko" else "ko"]
    passed = [row["type"] for row in rows(tmp_path / "out") if load_case(row).run(other).passed]
    assert passed == ["baseline"] * len(passed)


def test_disallowed_characters_only_matter_where_latin_is_expected(tmp_path):
    for language, body in LANGUAGES.items():
        write_pair(tmp_path / "in", language, body, language=language)
    derive_folder(str(tmp_path / "in"), str(tmp_path / "out"))
    checks = {
        row["pdf"]: row["check_disallowed_characters"]
        for row in by_type(tmp_path / "out")["baseline"]
    }
    assert checks == {
        "pages/ko.pdf": False,
        "pages/zh.pdf": False,
        "pages/ar.pdf": False,
        "pages/fr.pdf": True,
    }


def test_html_pages_give_their_headers_as_absent_tests(tmp_path):
    page = """<html lang="pt-BR"><head><style>p {color: red}</style></head><body>
    <header><div>Jornal da Cidade</div><span class="page-number">14</span></header>
    <main><h1>Obras na ponte</h1><p>A ponte sobre o rio foi <b>reaberta</b> ontem.<sup>1</sup>
    Segundo a prefeitura, o custo chegou a <a href="x">doze milhões</a>.</p>
    <ul><li>primeira fase concluída</li><li>segunda fase adiada</li></ul>
    <table><tr><th>Ano</th><th>Custo</th></tr><tr><td>2019</td><td>3,5</td></tr></table></main>
    <footer><p>Assinaturas: ligue agora</p><p class="footnote">1 Dados provisórios.</p></footer>
    </body></html>"""
    write_pdf(tmp_path / "in" / "a.pdf", [(300, "x")])
    (tmp_path / "in" / "a.html").write_text(page, "utf-8")
    derive_folder(str(tmp_path / "in"), str(tmp_path / "out"))
    truth = (tmp_path / "out/claude_original/pages/a_page1_pg1_repeat1.md").read_text("utf-8")
    assert truth.startswith("---\nprimary_language: pt\n")
    assert truth.partition("---\n")[2].partition("---\n")[2] == (
        "# Obras na ponte\n\n"
        "A ponte sobre o rio foi **reaberta** ontem.<sup>1</sup> Segundo a prefeitura, o custo "
        "chegou a doze milhões.\n\n"
        "- primeira fase concluída\n- segunda fase adiada\n\n"
        "<table>\n<tr><th>Ano</th><th>Custo</th></tr>\n<tr><td>2019</td><td>3,5</td></tr>\n</table>"
        "\n\n1 Dados provisórios."
    )
    found = by_type(tmp_path / "out")
    assert {row["text"] for row in found["absent"]} == {
        "Jornal da Cidade",
        "14",
        "Assinaturas: ligue agora",
    }
    assert set(found) >= {"present", "table", "format", "footnote", "baseline"}


def test_same_seed_same_tests_whatever_the_company(tmp_path):
    write_pair(tmp_path / "one", "a", REPORT)
    write_pair(tmp_path / "two", "a", REPORT)
    write_pair(tmp_path / "two", "z", "Totally unrelated words stand here.")
    for name in ("one", "two"):
        derive_folder(str(tmp_path / name), str(tmp_path / f"{name}_out"), seed=5, workers=1)
    derive_folder(str(tmp_path / "two"), str(tmp_path / "parallel"), seed=5, workers=2)
    derive_folder(str(tmp_path / "one"), str(tmp_path / "other_seed"), seed=6)
    one, two = rows(tmp_path / "one_out"), rows(tmp_path / "two_out")
    assert one == [row for row in two if row["pdf"] == "pages/a.pdf"]
    assert two == rows(tmp_path / "parallel")
    assert one != rows(tmp_path / "other_seed")


def test_bounded_and_deduplicated(tmp_path):
    words = " ".join(f"word{chr(97 + i // 26)}{chr(97 + i % 26)}letters" for i in range(300))
    write_pair(tmp_path / "in", "a", f"{words}.\n\n{words}.")
    derive_folder(str(tmp_path / "in"), str(tmp_path / "out"), most=7)
    contents = [
        json.dumps({k: v for k, v in row.items() if k != "id"}) for row in rows(tmp_path / "out")
    ]
    assert len(contents) == 7
    assert len(set(contents)) == 7


def test_blank_page_must_stay_blank(tmp_path):
    write_pair(tmp_path / "in", "a", "")
    derive_folder(str(tmp_path / "in"), str(tmp_path / "out"))
    (row,) = rows(tmp_path / "out")
    assert row["type"] == "baseline"
    assert load_case(row).run(HEAD.format("null")).passed
    assert not load_case(row).run("A hallucinated sentence that is much too long. " * 3).passed


def test_unrenderable_formula_is_no_test_and_is_reported(tmp_path):
    write_pair(tmp_path / "in", "a", "A line of text with \\(\\frac{1\\) in it, and \\(a+b=c\\).")
    report = derive_folder(str(tmp_path / "in"), str(tmp_path / "out"))
    assert [row["math"] for row in by_type(tmp_path / "out")["math"]] == ["a+b=c"]
    assert any(key.startswith("math: not a valid test") for key in report["rejected_candidates"])


def test_unusable_pages_are_reported_with_reasons(tmp_path, capsys):
    folder = tmp_path / "in"
    write_pair(folder, "good", REPORT)
    write_pdf(folder / "two.pdf", [(300, "x")], pages=2)
    (folder / "two.md").write_text("text", "utf-8")
    (folder / "orphan.md").write_text("text", "utf-8")
    (folder / "broken.md").write_text("text", "utf-8")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    write_pdf(folder / "latin.pdf", [(300, "x")])
    (folder / "latin.md").write_bytes(b"caf\xe9")
    assert main(["tests", str(folder), str(tmp_path / "out"), "--workers", "1"]) == 0
    report = json.loads((tmp_path / "out" / "derive_report.json").read_text())
    why = report["pages_without_tests"]
    assert set(why) == {"two", "orphan", "broken", "latin"}
    assert "more than one page" in why["two"]
    assert "no PDF" in why["orphan"]
    assert "not UTF-8" in why["latin"]
    assert "no test from orphan" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing", "out"], "no such folder"),
        (["empty", "out"], "no usable page"),
        (["in", "out", "--max-tests", "0"], "--max-tests 0"),
        (["in", "used"], "already holds a bench folder"),
    ],
)
def test_mistakes_end_in_one_sentence(tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "used" / "pdfs").mkdir(parents=True)
    write_pair(tmp_path / "in", "a", REPORT)
    assert main(["tests", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("left", "code"),
    [
        (["pages/a.pdf"], 0),
        (["pages/a.pdf", "pages/b.pdf"], 2),
        (["a.pdf"], 2),
        (["pages/a.pdf", "../present.jsonl"], 2),
    ],
)
def test_a_folder_that_a_call_began_is_taken_and_no_other(tmp_path, monkeypatch, left, code):
    monkeypatch.chdir(tmp_path)
    write_pair(tmp_path / "in", "a", REPORT)
    for name in left:
        path = tmp_path / "out" / "pdfs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert main(["tests", "in", "out"]) == code
    assert bool((tmp_path / "out/pdfs" / left[0]).stat().st_size) == (code == 0)


@pytest.mark.parametrize("title", ["<h1>Annual Report</h1>", "<div><h2>Annual Report</h2></div>"])
def test_a_title_in_a_header_is_no_furniture(title):
    html = f"<html><body><header>{title}<p>Vol. 3</p></header><p>text</p></body></html>"
    assert read_html(html).furniture == ("Vol. 3",)


@pytest.mark.parametrize(
    ("formula", "gives"),
    [
        (r"\alpha + \beta = \gamma", True),
        (r"\Omega \to \infty", True),
        (r"\leq \infty", True),
        (r"\quad \dots", False),
    ],
)
def test_formulas_of_commands_alone_give_tests_or_are_counted(formula, gives):
    body = f"Some words of prose \\( {formula} \\) and more of them."
    page = TruePage("a", "a.pdf", body, body, (), ())
    derived = Derived("a")
    tests = list(
        _verified("math", candidates.math(body, read(body), Random(0)), page, derived, None)
    )
    assert bool(tests) == gives
    assert derived.rejected.total() == (0 if gives else 1)


def test_every_file_of_a_folder_is_a_page_or_has_its_reason(tmp_path):
    lines = [(500, "The survey covered forty lakes above the tree line.")]
    folder = tmp_path / "in"
    for name in ("a.pdf", "a.PDF", "B.PDF", "c.pdf", "lone.PDF"):
        write_pdf(folder / name, lines)
    for name in ("a.md", "B.MD", "d.md"):
        (folder / name).write_text(HEAD.format("en") + lines[0][1])
    (folder / "c.HTML").write_text(f"<html><body><p>{lines[0][1]}</p></body></html>")
    pages, skipped = find_pages(str(folder))
    assert [(page.name, Path(page.pdf_path).name) for page in pages] == [
        *(("B", "B.PDF"), ("a", "a.pdf"), ("c", "c.pdf"))
    ]
    assert skipped == {
        "a.PDF": TWIN,
        "lone.PDF": "there is no .md or .html next to it",
        "d": "there is no PDF next to it",
    }
