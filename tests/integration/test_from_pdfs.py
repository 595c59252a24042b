"""`synth from-pdfs` end to end: real PDFs of each kind, a scripted endpoint, a real browser."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from page_server import PageServer, document, looks, picture_key, upright
from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from running import grpo_overrides, here, run, words_of
from sheet_browser import launched, opened

from olmrl.bench import load_case
from olmrl.data.page import scan_bench
from olmrl.data.render import render_page
from olmrl.metrics import read_rows
from olmrl.mix.pdf_child import PdfPool
from olmrl.synth.pdfs.writing import Studio

pytest.importorskip("playwright", reason="needs the package playwright")
pytestmark = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="needs chromium on the PATH"
)

SIDE = 512
WORDS = (
    *("harbour", "lantern", "meadow", "orchard", "pebble"),
    *("quarry", "river", "saddle", "timber", "umbrella"),
)
COLUMNS = ".two{display:flex;gap:24px}.two>div{width:48%} td,th{border:1px solid #444}"


def lines_of(start, count):
    """Sentences of a document's own."""
    return [
        f"In {start} {n} the {WORDS[n % 10]} of {WORDS[(n * 3 + 1) % 10]} was {100 * n + 17}."
        for n in range(count)
    ]


def write_text(path, lines, columns=1, turn=0):
    """A born-digital page; `turn` says how it lies in its PDF (degrees counter-clockwise)."""
    canvas = Canvas(str(path), pagesize=(595, 842), invariant=1)
    canvas.setPageRotation(0)
    if turn:
        canvas.setPageSize((842, 595))
        canvas.translate(842, 0)
        canvas.rotate(90)
    half = (len(lines) + columns - 1) // columns
    for number, line in enumerate(lines):
        column, row = divmod(number, half)
        canvas.setFont("Helvetica", 9 if columns == 1 else 6.5)
        canvas.drawString(60 + 250 * column, 780 - 15 * row, line)
    canvas.save()


def write_scan(path, source):
    """The picture of a page, without a text layer."""
    picture = io.BytesIO()
    Image.fromarray(render_page(str(source), 1, 1200)).save(picture, "JPEG")
    canvas = Canvas(str(path), pagesize=(595, 842), invariant=1)
    canvas.drawImage(ImageReader(picture), 0, 0, 595, 842)
    canvas.save()


def paragraphs(lines):
    return "".join(f"<p>{line}</p>" for line in lines)


HOSTILE = """
<script>while(true){}</script><iframe src="file:///etc/passwd"></iframe>
<img src="URL/leak.png" alt="a leaking picture"><link rel="stylesheet" href="URL/x.css">
<style>@import "URL/y.css"; body{background:url(URL/z.png)} @keyframes a{from{width:1px}}
p{animation:a 1s infinite}</style><object data="URL/bomb.png"></object>
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """PDFs of each kind, and what a good model writes of them: {stem: HTML}."""
    folder = tmp_path_factory.mktemp("library")
    texts = {name: lines_of(name, 24) for name in ("plain", "turned", "hostile", "scan", "ragged")}
    columns = lines_of("columns", 40)
    for name in ("plain", "hostile", "ragged"):
        write_text(folder / f"{name}.pdf", texts[name])
    write_text(folder / "turned.pdf", texts["turned"], turn=90)
    write_text(folder / "columns.pdf", columns, columns=2)
    write_text(folder / "scanned-text", texts["scan"])
    write_scan(folder / "scan.pdf", folder / "scanned-text")
    (folder / "scanned-text").unlink()
    canvas = Canvas(str(folder / "locked.pdf"), encrypt="secret")
    canvas.save()
    (folder / "empty.pdf").write_bytes(b"")
    (folder / "damaged.pdf").write_bytes(b"%PDF-1.7\n1 0 obj\n<<")
    head = "<header><span>Annals of trade</span></header><h1>On harbours</h1>"
    table = (
        "<table><tr><th>Name</th><th>Price</th><th>Year</th></tr><tr><td>lantern</td><td>12.50</td>"
        "<td>1911</td></tr><tr><td>saddle</td><td>7.25</td><td>1912</td></tr></table>"
    )
    foot = '<footer><span class="page-number">17</span></footer>'
    html = {name: document(head + paragraphs(text) + foot) for name, text in texts.items()}
    figure = '<div class="image" data-description="a ship at sea" style="height:60px"></div>'
    formulas = "<p>If \\(a<b\\), then</p><p>\\[x^2 = \\frac{1}{2}\\]</p>"
    body = head + paragraphs(texts["plain"]) + formulas + table + figure + foot
    html["plain"] = document(body, style=COLUMNS)
    two = "".join(f"<div>{paragraphs(part)}</div>" for part in (columns[:20], columns[20:]))
    style = COLUMNS + ".two{font-size:10px}"
    html["columns"] = document(head + f'<div class="two">{two}</div>' + foot, style=style)
    html["ragged"] = html["ragged"].replace("</h1>", "</h1><table><tr><td>1<td>2<tr><td>3</table>")
    return folder, html


@pytest.fixture(scope="module")
def endpoint(library):
    """A model that knows the library's pages, by their pictures."""
    folder, html = library
    stems = ("plain", "turned", "hostile", "scan", "ragged", "columns")
    with PdfPool(1) as pool:
        studio = Studio(pool, {}, SIDE, False, "")
        known = {
            picture_key(studio.picture(str(folder / f"{stem}.pdf"), turn)): stem
            for stem in stems
            for turn in ((0, 90) if stem == "turned" else (0,))
        }

    def says(page, stage, attempt):
        if stage == "orientation" and page == "turned":
            return upright(90)
        if stage == "layout":
            return looks(columns=2 if page == "columns" else 1)
        if stage == "html" and attempt == 0 and page == "scan":
            return "I am sorry, I see no page."
        return None

    with PageServer(known, says) as server:
        server.key = "none"
        server.html.update(html)
        server.html["hostile"] = html["hostile"].replace(
            "</h1>", "</h1>" + HOSTILE.replace("URL", server.url)
        )
        yield server


def words(library, endpoint, out, *more):
    return [
        "from-pdfs", library[0], out, "--model", "gpt-4.1", "--base-url", endpoint.url,
        "--side", SIDE, "--workers", 1, *more,
    ]  # fmt: skip


def make(library, endpoint, out, *more):
    command = [sys.executable, "-m", "olmrl.synth", *words(library, endpoint, out, *more)]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def made(library, endpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "out"
    done = make(library, endpoint, out)
    assert done.returncode == 0, done.stderr
    return out, done


def test_a_dry_run_tells_the_cost_and_asks_nothing(library, endpoint, tmp_path):
    before = len(endpoint.requests)
    dry = words(library, endpoint, tmp_path / "x", "--dry-run")
    code, output, errors = here("olmrl.synth", *dry)
    assert code == 0, errors
    assert output.startswith("estimate: 6 pages, 24 calls, ") and "$" in output
    assert "9 PDFs, 6 pages chosen" in output and "password" in output
    assert len(endpoint.requests) == before and not (tmp_path / "x").exists()


def test_the_pages_are_a_bench_folder_whose_tests_hold(made, library):
    out, done = made
    sources = scan_bench(str(out / "bench"))
    kinds = set()
    for page in sources:
        truth = Path(page.reference_path).read_text()
        for row in page.tests:
            kinds.add(row["type"])
            assert load_case(row).run(truth).passed, row
    assert {"present", "absent", "order", "table", "math", "format", "baseline"} <= kinds
    rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    stems = {Path(row["source"]).stem: row for row in rows}
    assert {stem for stem, row in stems.items() if row["tests"]} == {
        "plain", "turned", "hostile", "scan", "columns",
    }  # fmt: skip
    assert "same number of columns" in stems["ragged"]["dropped"]
    assert stems["turned"]["turned"] == 90 and stems["turned"]["paper"] == [793, 1123]
    assert stems["columns"]["likeness"]["render"]["columns"] == 2
    assert stems["plain"]["cost_usd"] == pytest.approx(4 * (1000 * 2 + 100 * 8) / 1e6)
    assert stems["scan"]["calls_made"] == 5
    assert "estimate: 6 pages" in done.stderr and f"{out}/sheet/index.html" in done.stdout
    assert {path.stem for path in (out / "pairs").glob("*.md")} == {
        row["page"] for row in rows if row["tests"]
    }


def test_hostile_html_reads_and_fetches_nothing(made, endpoint):
    out, _ = made
    assert not [request for request in endpoint.requests if request.startswith("GET")]
    (row,) = (
        row
        for row in map(json.loads, (out / "manifest.jsonl").read_text().splitlines())
        if Path(row["source"]).stem == "hostile"
    )
    assert row["left"]["<script>"] == 1 and row["left"]["<iframe>"] == 1
    assert "root:" not in (out / f"pairs/{row['page']}.md").read_text()


def test_bad_pdfs_are_listed(made):
    report = json.loads((made[0] / "report.json").read_text())
    assert report["chosen"]["documents"] == 9 and report["chosen"]["pages"] == 6
    assert "the file is empty" in report["chosen"]["left_out"]
    assert report["asked"]["calls"]["html: malformed"] == 1


def test_the_sheet_shows_source_render_likeness_and_cost(made):
    sheet = (made[0] / "sheet/index.html").read_text()
    assert sheet.count('alt="source page"') == 5 and "$0.0112" in sheet
    assert "likeness: overlap" in sheet and sheet.count("columns 2 in the source, 2 here") == 1


def test_the_sheet_takes_verdicts_in_a_browser(made):
    with launched() as browser, opened(browser, made[0] / "sheet/index.html") as page:
        assert page.locator("img").count() == 10
        page.keyboard.press("a")
        assert page.inner_text("#count").startswith("1 accepted")


def test_the_same_call_again_asks_nothing_and_gives_the_same(made, library, endpoint):
    out, _ = made
    before = len(endpoint.requests), (out / "bench/text_present.jsonl").read_bytes()
    done = make(library, endpoint, out)
    assert done.returncode == 0, done.stderr
    assert (len(endpoint.requests), (out / "bench/text_present.jsonl").read_bytes()) == before


def settings(made, tiny_model, out):
    bench = made[0] / "bench"
    return [
        *grpo_overrides(made[0], tiny_model, out),
        f"data.train={bench}",
        f"data.heldout={bench}",
    ]


def test_grpo_takes_the_bench_folder(made, tiny_model, tmp_path):
    overrides = settings(made, tiny_model, tmp_path)
    code, output, errors = here("olmrl.grpo", *words_of(overrides, flags=["--dry-run"]))
    assert code == 0, errors
    assert "step, simulated" in output


@pytest.mark.slow
def test_grpo_trains_on_it(made, tiny_model, tmp_path):
    overrides = [
        *settings(made, tiny_model, tmp_path / "run"),
        "run.steps=2",
        "rollout.group_size=4",
        "rollout.sampling={temperature: 1.0, max_tokens: 24}",
        "rewards=[{name: edit_distance, options: {compat: true}}, {name: bench, weight: 0.1}]",
    ]
    run("olmrl.grpo", *overrides)
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows if "reward/mean" in row] == [1, 2]
