"""Pages in other scripts: real letters, tests of every kind, and letters that no font has."""

import json
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from languages import LANGUAGES, document

from olmrl.bench import load_case
from olmrl.data.page import scan_bench
from olmrl.markup import front_matter
from olmrl.markup.browser import find_chromium

pytest.importorskip("playwright", reason="needs the package playwright")
FONTS = {
    "zh": "Noto Sans CJK SC",
    "ja": "Noto Sans CJK JP",
    "ko": "Noto Sans CJK KR",
    "ar": "DejaVu Sans",
}


def has_font(language):
    family = FONTS.get(language)
    if family is None or shutil.which("fc-list") is None:
        return True
    told = subprocess.run(["fc-list", family], capture_output=True, text=True, check=True)
    return bool(told.stdout.strip())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    if find_chromium() is None:
        pytest.skip("needs chromium on the PATH")
    source = tmp_path_factory.mktemp("languages")
    for language in LANGUAGES:
        (source / f"{language}.html").write_text(document(language))
    (source / "private.html").write_text(
        document("fr") + "<p>A letter \ue123 that nobody has drawn.</p>"
    )
    (source / "unnamed.html").write_text(document("ar").replace('lang="ar"', 'lang="en"'))
    out = tmp_path_factory.mktemp("made") / "out"
    command = [sys.executable, "-m", "olmrl.synth", "from-html", str(source), str(out)]
    done = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    pages = defaultdict(list)
    for page in scan_bench(str(out / "bench")):
        pages[page.pdf_path.rpartition("/")[2].partition("-")[0]].append(page)
    return pages, json.loads((out / "report.json").read_text())


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_of_each_language_bears_tests_out(made, language):
    if not has_font(language):
        pytest.skip(f"needs the font {FONTS[language]}")
    (page,) = made[0][language]
    truth = Path(page.reference_path).read_text("utf-8")
    assert front_matter.parse(truth).primary_language == language
    kinds = defaultdict(int)
    for row in page.tests:
        kinds[row["type"]] += 1
        assert load_case(row).run(front_matter.strip(truth)).passed, row
    assert kinds["present"] >= 8 and kinds["table"] >= 8 and kinds["order"] >= 3
    assert kinds["format"] >= 1
    needles = {row["text"] for row in page.tests if row["type"] == "present"}
    assert any(not needle.isascii() for needle in needles)


def test_a_letter_that_no_font_has_costs_its_block(made):
    pages, report = made
    reason = "block with a letter that no font has (Debian's package: none known, a letter of "
    assert any(told.startswith(reason) for told in report["documents"]["left_out"])
    (page,) = pages["private"]
    assert "\ue123" not in Path(page.reference_path).read_text("utf-8")


def test_a_template_that_calls_everything_english_is_not_believed(made):
    (page,) = made[0]["unnamed"]
    truth = Path(page.reference_path).read_text("utf-8")
    assert front_matter.parse(truth).primary_language == "ar"
