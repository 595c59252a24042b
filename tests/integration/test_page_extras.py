"""`synth from-html` with variants, redaction, a licence and a second reader, in a real browser."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from olmrl.bench import load_case
from olmrl.data.page import scan_bench
from olmrl.markup import front_matter

pytest.importorskip("playwright", reason="needs the package playwright")
pytestmark = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="needs chromium on the PATH"
)

WORDS = """
harbour lantern meadow orchard pebble quarry river saddle timber umbrella valley willow anchor
basket candle daisy ember feather garden hollow island jacket kettle ladder mirror needle oyster
"""


def paragraph(number):
    words = WORDS.split()
    some = " ".join(words[(number + step * 5) % len(words)] for step in range(11))
    return f"<p>In chapter {number} the {some} of {1000 + number} was <b>measured</b> twice.</p>"


PAGE = f"""<html lang="en"><head><title>Report of zelda@example.org</title>
<meta name="dcterms.license" content="CC BY 4.0"></head><body><h1>On harbours</h1>
<p>Write to <i>john</i>.doe@example.com or call +49 30 1234567 about card 4111 1111 1111 1111.</p>
<table><tr><th>Name</th><th>Price</th></tr><tr><td>Apple</td><td>12.50</td></tr>
<tr><td>Cherry</td><td>7.25</td></tr></table>
{"".join(map(paragraph, range(60)))}</body></html>"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    source = tmp_path_factory.mktemp("html")
    (source / "report.html").write_text(PAGE)
    out = tmp_path_factory.mktemp("made") / "out"
    words = ["--workers", "1", "--redact", "--licence", "none", "--variants", "scan,rotate,typos"]
    words[-1] += ",density,dpi"
    command = [sys.executable, "-m", "olmrl.synth", "from-html", str(source), str(out), *words]
    done = subprocess.run(
        [*command, "--pages-per-document", "1"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def manifest(out):
    lines = (out / "manifest.jsonl").read_text().splitlines()
    return {row["page"]: row for row in map(json.loads, lines)}


def test_every_variant_is_a_page_whose_tests_hold(made):
    out, told = made
    rows = manifest(out)
    kinds = Counter(row.get("variant") for row in rows.values())
    dense = kinds.pop("density", 0)  # none of a document's last page: no more text follows
    assert kinds == {None: 1, "scan": 1, "rotate": 1, "typos": 1, "dpi": 1}
    (name,) = [name for name, row in rows.items() if "variant" not in row]
    assert {row["of"] for row in rows.values() if "of" in row} == {name}
    pages = {Path(page.pdf_path).stem: page for page in scan_bench(str(out / "bench"))}
    assert pages.keys() == rows.keys()
    for page in pages.values():
        truth = Path(page.reference_path).read_text()
        assert all(load_case(row).run(truth).passed for row in page.tests)
        assert (out / "pairs" / Path(page.pdf_path).name).exists()
    truths = {n: Path(page.reference_path).read_text() for n, page in pages.items()}
    body = front_matter.strip(truths[name])
    for kind in ("scan", "rotate", "dpi"):
        assert front_matter.strip(truths[f"{name}-{kind}"]) == body
    if dense:
        assert len(front_matter.strip(truths[f"{name}-density"])) > 1.2 * len(body)
    assert f"{5 + dense} of {5 + dense} pages" in told
    assert (out / "bench" / "old_scans.jsonl").exists()


def test_typing_errors_stay_and_are_tested(made):
    out, _ = made
    row = next(row for row in manifest(out).values() if row.get("variant") == "typos")
    pairs = out / "pairs"
    before, after = ((pairs / f"{name}.md").read_text() for name in (row["of"], row["page"]))
    tests = [
        test
        for page in scan_bench(str(out / "bench"))
        if Path(page.pdf_path).stem == row["page"]
        for test in page.tests
        if "_typo_" in test["id"]
    ]
    assert len(tests) == row["typo_tests"] > 2
    for test in tests:
        assert load_case(test).run(after).passed and not load_case(test).run(before).passed


def test_nothing_personal_is_left_anywhere(made):
    out, _ = made
    rows = manifest(out)
    assert all(row["licence"] == "CC BY 4.0" for row in rows.values())
    assert all(row["redacted"] == {"card": 1, "email": 2, "phone": 1} for row in rows.values())
    texts = [
        path.read_text() for path in out.rglob("*") if path.suffix in (".md", ".jsonl", ".html")
    ]
    assert len(texts) > 12
    for text in texts:
        for known in ("zelda", "john", "doe@", "1234567", "4111"):
            assert known not in text, known
