"""`synth from-docs`: what pandoc reads becomes pages, behind a fence."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from olmrl.bench import load_case
from olmrl.data.page import scan_bench
from olmrl.markup import front_matter
from olmrl.markup.browser import find_chromium
from olmrl.synth.documents import from_docs
from olmrl.synth.documents.from_docs import find_pandoc, to_html

needs_pandoc = pytest.mark.skipif(shutil.which("pandoc") is None, reason="needs pandoc")
TEXT = (
    "The keeper of the old lantern climbs 214 steps before dusk. Ropes and sails dry along the "
    "northern quay. Nobody remembers who planted the willow beside the chapel. In winter the "
    "baker sells candles instead of cakes. A ferry crosses the bay every second morning. Children "
    "gather pebbles and amber below the cliffs."
)
MARKDOWN = f"""---
title: On harbours
lang: fr
---
# Lanterns

{TEXT} The sum is $x_1 + 2$, as **measured** there.[^1]

[^1]: A note of the keeper.

| Name | Price |
|------|-------|
| Rope | 12.50 |
| Sail | 7.25  |

<script>alert(1)</script><img src="file:///etc/passwd">
"""
LATEX = rf"""\documentclass{{article}}
\newcommand{{\plane}}{{\mathbb{{R}}^2}}
\title{{On lanterns}}\author{{A. Keeper}}
\begin{{document}}\maketitle
\input{{parts/one}}
\include{{/etc/hostname}}\input{{../secret}}
% \input{{parts/commented}}
{TEXT}
\end{{document}}
"""


def pandoc(markdown, path):
    subprocess.run(
        ["pandoc", "--from", "markdown", "--output", path], input=markdown, text=True, check=True
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    (folder / "secret.tex").write_text("s3cret")
    source = folder / "source"
    (source / "parts").mkdir(parents=True)
    (source / "plain.md").write_text(MARKDOWN)
    for name in ("word.docx", "book.epub"):
        pandoc(MARKDOWN.replace("On harbours", f"On harbours, {name}"), source / name)
    (source / "paper.tex").write_text(LATEX)
    (source / "parts" / "one.tex").write_text(
        r"In $\plane$ a \emph{lantern} shines. \input{parts/one}"
    )
    (source / "parts" / "commented.tex").write_text("not wanted")
    (source / "damaged.docx").write_bytes(b"PK\3\4 damaged")
    (source / "empty.epub").write_bytes(b"")
    return source


@needs_pandoc
@pytest.mark.parametrize("name", ["plain.md", "word.docx", "book.epub"])
def test_a_document_keeps_its_title_table_and_formula(source, name):
    html = to_html(str(source / name)).decode()
    assert "<title>On harbours" in html and "<td" in html and "12.50" in html
    assert 'class="math inline"' in html and "<strong>measured</strong>" in html


@needs_pandoc
def test_latex_is_read_with_its_parts_and_macros_and_nothing_from_outside(source):
    html = to_html(str(source / "paper.tex")).decode()
    assert r"\mathbb{R}^2" in html and "<em>lantern</em>" in html
    assert "<title>On lanterns" in html and "A. Keeper" in html
    assert "s3cret" not in html and "not wanted" not in html


@needs_pandoc
def test_a_document_without_a_title_gets_none(tmp_path):
    (tmp_path / "x.md").write_text("Just *words*.")
    assert b"<title></title>" in to_html(str(tmp_path / "x.md"))


@needs_pandoc
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("damaged.docx", "pandoc cannot read it"),
        ("empty.epub", "an empty file"),
        ("parts/one.tex", "a part of another LaTeX document"),
    ],
)
def test_what_cannot_be_read_says_why(source, name, reason):
    with pytest.raises(ValueError, match=reason):
        to_html(str(source / name))


@needs_pandoc
def test_a_bomb_is_stopped_by_the_memory_limit(source, tmp_path, monkeypatch):
    bomb = tmp_path / "bomb.docx"
    with (
        zipfile.ZipFile(source / "word.docx") as whole,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in whole.namelist():
            data = whole.read(name)
            if name == "word/document.xml":
                data = data.replace(b"<w:body>", b"<w:body>" + b"<w:p/>" * 500_000, 1)
            archive.writestr(name, data)
    monkeypatch.setattr(from_docs, "MEMORY_BYTES", 64 << 20)
    with pytest.raises(ValueError, match=r"more than 0 GiB of memory|took longer"):
        to_html(str(bomb))


@needs_pandoc
def test_a_slow_document_is_stopped(source, monkeypatch):
    monkeypatch.setattr(from_docs, "TIMEOUT_S", 0.001)
    with pytest.raises(ValueError, match=r"took longer than 0\.001 s"):
        to_html(str(source / "plain.md"))


@pytest.mark.parametrize(
    ("version", "reason"),
    [(None, "apt-get install pandoc"), ("pandoc 2.9.2", "2.15 or later"), ("", "says 'nothing'")],
)
def test_no_pandoc_or_an_old_one_is_one_sentence(tmp_path, monkeypatch, version, reason):
    if version is not None:
        (tmp_path / "pandoc").write_text(
            f"#!/bin/sh\necho '{version}'\n" if version else "#!/bin/sh\n"
        )
        (tmp_path / "pandoc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    from_docs._version.cache_clear()
    with pytest.raises(ValueError, match=reason) as raised:
        find_pandoc()
    assert "\n" not in str(raised.value)


@needs_pandoc
def test_pages_of_documents_bear_tests_out(source, tmp_path):
    if find_chromium() is None:
        pytest.skip("needs chromium on the PATH")
    pytest.importorskip("playwright", reason="needs the package playwright")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "olmrl.synth", "from-docs", str(source), str(out)]
    done = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    pages = {
        Path(page.pdf_path).name.partition("-")[0]: page for page in scan_bench(str(out / "bench"))
    }
    assert set(pages) == {"plain", "word", "book", "paper"}
    for page in pages.values():
        truth = Path(page.reference_path).read_text("utf-8")
        for row in page.tests:
            assert load_case(row).run(front_matter.strip(truth)).passed, row
    kinds = {row["type"] for page in pages.values() for row in page.tests}
    assert {"present", "order", "table", "math", "format"} <= kinds
    truth = Path(pages["plain"].reference_path).read_text("utf-8")
    assert front_matter.parse(truth).primary_language == "fr" and "passwd" not in truth
    report = json.loads((out / "report.json").read_text())["documents"]
    assert {Path(path).name for path in report["without_pages"]} == {
        "damaged.docx",
        "empty.epub",
        "one.tex",
        "commented.tex",
    }
