"""`synth from-html` with a real browser: pages, hostile input, other settings, a killed call."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from olmrl.bench import load_case
from olmrl.data.page import scan_bench
from olmrl.data.render import page_count

pytest.importorskip("playwright", reason="needs the package playwright")
pytestmark = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="needs chromium on the PATH"
)

WORDS = """
harbour lantern meadow orchard pebble quarry river saddle timber umbrella valley willow anchor
basket candle daisy ember feather garden hollow island jacket kettle ladder
"""


def article(number):
    """A document of about two pages, its words in an order of its own."""
    words = WORDS.split()[number:] + WORDS.split()[:number]
    text = "".join(
        f"<p>In chapter {n} the {' '.join(words[n % 7 : n % 7 + 12])} of {number * 100 + n} was "
        f"<b>measured</b> with care, and \\(x_{n} = {n}\\) was written down.</p>"
        for n in range(40)
    )
    return (
        f"<html lang='en'><head><title>Report {number}</title></head><body><h1>On {words[0]}s</h1>"
        f"{text}<table><tr><th>Name</th><th>Price</th></tr><tr><td>{words[3]}</td><td>12.50</td>"
        f"</tr><tr><td>{words[4]}</td><td>7.25</td></tr></table></body></html>"
    )


HOSTILE = {
    "script.html": "<script>while(true){}</script>" + article(20),
    "frame.html": "<iframe src='file:///etc/passwd'></iframe>" + article(21),
    "deep.html": "<div>" * 5000 + "x",
    "large.html": "<p>x</p>" * 1_100_000,
    "binary.html": "\x00\x01\x02" * 1000,
    "empty.html": "",
    "wide.html": article(22) + f"<pre>{'w' * 50_000}</pre>",
    "style.html": f"<style>{'p{color:red}' * 50_000}</style>" + article(23),
    "math.html": article(24) + "<p>Also \\(\\frac{\\) is broken.</p>",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("html")
    for number in range(3):
        (folder / f"report {number}.html").write_text(article(number))
    (folder / "sub").mkdir()
    (folder / "sub" / "copy.HTM").write_text(article(0))
    for name, text in HOSTILE.items():
        (folder / name).write_bytes(text.encode())
    (folder / "broken.html").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.html")
    return folder


def command(source, out, *words):
    return [sys.executable, "-m", "olmrl.synth", "from-html", str(source), str(out), *words]


def make(source, out, *words):
    done = subprocess.run(
        command(source, out, "--workers", "1", *words), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "out"
    return out, make(source, out)


def files(folder):
    """Every file's bytes by its path, times left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in (".jsonl", ".md")
    }


def test_pages_are_a_bench_folder_whose_tests_hold(made):
    out, told = made
    sources = scan_bench(str(out / "bench"))
    assert len(sources) > 10
    kinds = set()
    for page in sources:
        assert page_count(page.pdf_path) == 1
        truth = Path(page.reference_path).read_text()
        for row in page.tests:
            kinds.add(row["type"])
            assert load_case(row).run(truth).passed, row
    assert {"present", "absent", "order", "table", "math", "format", "baseline"} <= kinds
    assert f"on {len(sources)} of" in told


def test_pairs_are_the_same_pages(made):
    out, _ = made
    pairs = {path.stem for path in (out / "pairs").glob("*.pdf")}
    assert pairs == {path.stem for path in (out / "pairs").glob("*.md")}
    assert len(pairs) == len(list((out / "bench" / "pdfs").rglob("*.pdf")))


def test_what_was_hostile_or_useless_is_counted_with_its_reason(made):
    out, told = made
    report = json.loads((out / "report.json").read_text())["documents"]
    reasons = {Path(path).name: why for path, why in report["without_pages"].items()}
    unreadable = {"broken.html", "pipe.html"}
    assert set(reasons) == {"deep.html", "large.html", "binary.html", "empty.html"} | unreadable
    assert reasons["pipe.html"].endswith("pipe.html: not a regular file")
    assert reasons["broken.html"].endswith("No such file or directory")
    assert "nested" in reasons["deep.html"] and "larger than" in reasons["large.html"]
    assert report["copies"] == 1
    assert report["left_out"]["block with a formula that cannot be set"] == 1
    assert report["found"] == 15 and report["taken"] == 12
    assert "15 documents, 1 of them copies of others; 12 taken: 8 gave pages, 4 did not" in told
    assert "; 2 could not be read" in told
    assert not any("passwd" in text.decode() for text in files(out).values())


def test_a_killed_call_goes_on_and_ends_alike(made, source, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(source, out, "--workers", "1"), start_new_session=True, stderr=subprocess.DEVNULL
    )
    documents = out / "work" / "documents"
    deadline = time.monotonic() + 120
    while len(list(documents.glob("*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = {path.name: path.stat().st_mtime_ns for path in documents.glob("*.json")}
    make(source, out)
    assert files(out / "bench") == files(made[0] / "bench")
    kept = {name: (documents / name).stat().st_mtime_ns for name in done}
    assert kept == done  # what was done is not done again


def test_other_settings_are_refused(made, source):
    out, _ = made
    done = subprocess.run(
        command(source, out, "--seed", "9"), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    said = done.stderr.splitlines()[-1]
    assert said.startswith(f"python -m olmrl.synth from-html: {out}: its pages were")
    assert "seed=0" in done.stderr


def test_what_lies_in_a_folder_of_others_stays(source, tmp_path):
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "mine.md").write_text("mine")
    done = subprocess.run(command(source, tmp_path), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"{tmp_path / 'pairs'}: is there already and would be replaced" in done.stderr
    assert files(tmp_path) == {"pairs/mine.md": b"mine"}


def test_a_folder_without_html_is_one_sentence(tmp_path):
    (tmp_path / "x.txt").write_text("x")
    done = subprocess.run(
        command(tmp_path, tmp_path / "out"), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "no HTML file (.html, .htm, .xhtml)" in done.stderr


def test_the_marks_of_the_sheet_choose_pairs(made, tmp_path):
    from sheet_browser import launched, opened, saved_marks

    from olmrl.mix.__main__ import main as mix

    out, _ = made
    with launched() as browser, opened(browser, out / "sheet" / "index.html") as page:
        for key in ("a", "r", "a", "k"):
            page.keyboard.press(key)
        assert page.inner_text("#count").startswith("2 accepted, 1 rejected")
        marks = saved_marks(page)
    assert [mark["verdict"] for mark in marks] == ["good", "bad", "good"]
    (tmp_path / "marks.jsonl").write_text("".join(json.dumps(mark) + "\n" for mark in marks))
    words = ["--marks", str(tmp_path / "marks.jsonl")]
    assert mix(["filter", str(out / "pairs"), str(tmp_path / "kept"), *words]) == 0
    gone = {p.stem for p in (out / "pairs").glob("*.md")} - {
        p.stem for p in (tmp_path / "kept").glob("*.md")
    }
    assert gone == {marks[1]["id"]}
