"""sample and render: seeded choice, the filter's reasons, hostile PDFs, kill -9, Ray Data."""

import base64
import io
import json
import sys
from collections import Counter

import pytest
from mix_support import killed_at, make_pdf, tree
from PIL import Image
from reportlab.pdfgen import canvas

from olmrl.data.render import BadPage, page_count
from olmrl.mix.pdf import choose_pages, png_size
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.verbs.sample import draw

ENGLISH = "The committee met in the afternoon and agreed on the plan for the coming year.\n" * 5
GERMAN = "Der Ausschuss trat am Nachmittag zusammen und einigte sich auf den neuen Plan.\n" * 5
SPAM = "Free ebook download as pdf or epub file, save the free file and download today\n" * 5


@pytest.fixture(scope="module")
def crawl(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crawl")
    for number in range(4):
        make_pdf(folder / f"english{number}.pdf", [ENGLISH + str(number)] * 4, size=(600, 400))
    make_pdf(folder / "same.pdf", [ENGLISH + "0"] * 4, size=(600, 400))
    make_pdf(folder / "german.pdf", [GERMAN], size=(600, 400))
    make_pdf(folder / "spam.pdf", [SPAM], size=(600, 400))
    make_pdf(folder / "scan.pdf", [""])
    make_pdf(folder / "locked.pdf", [ENGLISH], encrypt="secret")
    (folder / "garbage.pdf").write_bytes(b"%PDF-1.4\n" + bytes(range(256)) * 8)
    (folder / "empty.pdf").write_bytes(b"")
    form = canvas.Canvas(str(folder / "form.pdf"))
    form.acroForm.textfield(name="name", x=50, y=50, width=100, height=20)
    form.showPage()
    form.save()
    return folder


def reasons(out, verb="sample"):
    summary = json.loads((out / f".mix/{verb}/summary.json").read_text())
    return {row["key"].rsplit("/", 1)[-1]: row["reason"] for row in summary["problems"]}


def test_the_filter_says_why_it_drops(tmp_path, mix, crawl):
    assert mix("sample", crawl, tmp_path / "out", "--max-pages", 2, "--workers", 1) == 0
    found = reasons(tmp_path / "out")
    assert found["german.pdf"] == "language de"
    assert found["spam.pdf"].startswith("spam words")
    assert found["form.pdf"] == "has a form to fill in"
    assert "encrypted" in found["locked.pdf"] and "empty" in found["empty.pdf"]
    assert "garbage.pdf" in found
    twins = [found.get("same.pdf", ""), found.get("english0.pdf", "")]
    assert sum("same content as" in reason for reason in twins) == 1
    rows = [json.loads(line) for line in (tmp_path / "out/pages.jsonl").read_text().splitlines()]
    assert Counter(row["url"].rsplit("/", 1)[-1][:5] for row in rows)["scan."] == 1
    for row in rows:
        page = tmp_path / "out" / f"{row['id']}.pdf"
        assert page_count(str(page)) == 1
    assert len(rows) == 4 * 2 + 1
    everything = tmp_path / "all"
    assert mix("sample", crawl, everything, "--no-filter", "--max-pages", 1, "--workers", 1) == 0
    assert len(list(everything.rglob("*.pdf"))) == 8


def test_the_same_seed_gives_the_same_pages_and_kill_changes_nothing(tmp_path, mix, crawl):
    listing = tmp_path / "list.txt"
    listing.write_text("# crawl\n" + "\n".join(map(str, sorted(crawl.glob("*.pdf")))) + "\n")
    more = ("--no-filter", "--docs", 4, "--seed", 3)
    assert mix("sample", listing, tmp_path / "a", *more, "--workers", 1) == 0
    assert mix("sample", listing, tmp_path / "b", *more, "--workers", 2) == 0
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert killed_at(3, "after", "sample", listing, tmp_path / "c", *more, "--workers", 2)
    assert mix("sample", listing, tmp_path / "c", *more) == 0
    assert tree(tmp_path / "c") == tree(tmp_path / "a")
    other = ("--no-filter", "--docs", 4, "--seed", 4)
    assert mix("sample", listing, tmp_path / "d", *other, "--workers", 1) == 0
    assert tree(tmp_path / "d") != tree(tmp_path / "a")


def test_pages_are_the_first_ones_and_random_others():
    assert choose_pages(2, 0, 3, "x") == (1, 2)
    assert choose_pages(100, 2, 2, "x") == (1, 2)
    assert choose_pages(5, 9, 3, "x") == (1, 2, 3)
    drawn = Counter(page for seed in range(3000) for page in choose_pages(10, 1, 4, str(seed)))
    assert drawn[1] == 3000
    assert all(900 < drawn[page] < 1100 for page in range(2, 11))  # 3 of the 9 others: 1000 each


def test_every_path_is_drawn_equally_often():
    counts = Counter(p for seed in range(2000) for p in draw((str(i) for i in range(20)), 5, seed))
    assert len(counts) == 20 and all(400 < n < 600 for n in counts.values())
    assert sorted(draw(["a", "b", "a"], 10, 0)) == ["a", "b"]


@pytest.mark.parametrize("source", ["nowhere.txt", "empty.txt"])
def test_a_useless_list_is_one_sentence(tmp_path, mix, capsys, source):
    (tmp_path / "empty.txt").write_text("\n")
    assert mix("sample", tmp_path / source, tmp_path / "out") == 2
    assert source in capsys.readouterr().err


@pytest.mark.slow
def test_ray_data_gives_the_same_pages(tmp_path, mix, crawl, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    more = ("--no-filter", "--max-pages", 2, "--workers", 2)
    assert mix("sample", crawl, tmp_path / "here", *more) == 0
    assert mix("sample", crawl, tmp_path / "ray", *more, "--ray", "local") == 0
    assert tree(tmp_path / "ray") == tree(tmp_path / "here")


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """Real crashes on demand: the child runs a module that stops or dies on some file names."""
    (tmp_path / "hostile.py").write_text(
        "import os, struct, sys, time\n"
        "def read(path):\n"
        "    if 'hang' in path: time.sleep(60)\n"
        "    if 'crash' in path: os.abort()\n"
        "    if 'swell' in path: return bytes(1 << 40)\n"
        "    if 'half' in path:\n"
        "        os.write(int(sys.argv[1]), struct.pack('!i', 100) + b'half of an answer')\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return path\n"
    )
    (tmp_path / "sitecustomize.py").write_text(
        "import olmrl.mix.pdf, hostile\nolmrl.mix.pdf.read = hostile.read\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(p for p in sys.path if p)}")
    return tmp_path


def test_a_pdf_that_hangs_or_kills_its_reader_costs_only_itself(hostile):
    with PdfPool(1, deadline_s=4) as pool:
        assert pool.call("read", "fine") == "fine"
        with pytest.raises(BadPage, match="took longer than 4 s"):
            pool.call("read", "hang")
        with pytest.raises(BadPage, match="SIGABRT"):
            pool.call("read", "crash")
        with pytest.raises(BadPage, match="needs more than 8 GiB"):
            pool.call("read", "swell")
        with pytest.raises(BadPage, match="SIGKILL"):
            pool.call("read", "half")
        assert pool.call("read", "fine again") == "fine again"


def test_a_reader_that_died_between_two_files_blames_neither(hostile):
    with PdfPool(1) as pool:
        assert pool.call("read", "before") == "before"
        process = pool._children[0].process
        process.kill()
        process.wait()
        assert pool.call("read", "after") == "after"


def test_a_reader_that_does_not_start_blames_no_file(hostile, monkeypatch):
    monkeypatch.setattr("olmrl.data.fence.START_S", 0.0)
    with PdfPool(1) as pool, pytest.raises(ChildProcessError, match="not started within 0 s"):
        pool.call("read", "fine")
    monkeypatch.setattr("olmrl.data.fence.START_S", 60.0)
    dying = "import os\nopen('{0}/starts', 'a').write('.')\n"
    dying += "if os.path.getsize('{0}/starts') <= {1}: os._exit(3)\n"
    customize = hostile / "sitecustomize.py"
    working = customize.read_text()
    customize.write_text(dying.format(hostile, 3) + working)
    with PdfPool(1) as pool, pytest.raises(ChildProcessError, match="exit code 3"):
        pool.call("read", "fine")
    customize.write_text(dying.format(hostile, 5) + working)
    with PdfPool(1) as pool:
        assert pool.call("read", "third time lucky") == "third time lucky"


def test_render_writes_images_of_the_asked_size(tmp_path, mix, crawl, capsys):
    make_pdf(tmp_path / "in/sub/two.pdf", ["a", "b"], size=(200, 100))
    assert mix("render", tmp_path / "in", tmp_path / "out", "--side", 300) == 0
    assert png_size((tmp_path / "out/sub/two-2.png").read_bytes()[:24]) == (300, 150)
    assert Image.open(tmp_path / "out/sub/two-2.png").size == (300, 150)
    more = ("--side", 64, "--format", "webp", "--page", 1)
    assert mix("render", tmp_path / "in/sub/two.pdf", tmp_path / "webp", *more) == 0
    assert Image.open(tmp_path / "webp/two-1.webp").size == (64, 32)
    capsys.readouterr()
    assert mix("render", tmp_path / "in/sub/two.pdf", "-", "--side", 50) == 0
    assert Image.open(io.BytesIO(base64.b64decode(capsys.readouterr().out))).size == (50, 25)
    assert mix("render", tmp_path / "in/sub/two.pdf", "-", "--page", 3) == 2
    assert "page number out of range" in capsys.readouterr().err
    assert killed_at(1, "before", "render", tmp_path / "in", tmp_path / "k", "--side", 300)
    assert mix("render", tmp_path / "in", tmp_path / "k", "--side", 300) == 0
    assert tree(tmp_path / "k") == tree(tmp_path / "out")


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(30), b"\x89PNG\r\n\x1a\n1234IHDR"])
def test_what_is_no_png_header_is_an_error(data):
    with pytest.raises(ValueError, match="PNG"):
        png_size(data)
