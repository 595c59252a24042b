"""`synth from-pdfs` without a browser: stages, answers of every kind, limits, cost, kill -9."""

import io
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import page_press
import pytest
from openai_server import completion
from page_press import SETTINGS, Press, make
from page_server import PageServer, document, looks, picture_key, upright
from PIL import Image
from reportlab.pdfgen.canvas import Canvas

from olmrl.mix.api import key_for
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.prices import Price
from olmrl.synth.asking import asker
from olmrl.synth.asking.ledger import Ledger
from olmrl.synth.pdfs.estimate import dry_run
from olmrl.synth.pdfs.template_files import load_templates, write_templates
from olmrl.synth.pdfs.writing import SourcePage, Studio

RAGGED = document("<p>A table of twenty letters:</p><table><tr><td>1<td>2<tr><td>3</table>")
BETTER = document("<p>A better page of some twenty letters.</p>")


@pytest.fixture(scope="module")
def pool():
    with PdfPool(1) as pool:
        yield pool


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    pages = []
    for name in ("alpha", "beta"):
        canvas = Canvas(str(folder / f"{name}.pdf"), pagesize=(300, 400), invariant=1)
        canvas.drawString(20, 370, name)
        canvas.save()
        pages.append(SourcePage(name, str(folder / f"{name}.pdf"), f"/books/{name}.pdf", 3))
    return pages


@pytest.fixture(scope="module")
def pictures(pool, sources):
    """The pages by their pictures, upright and turned."""
    studio = Studio(pool, {}, SETTINGS.side, False, "")
    return {
        picture_key(studio.picture(page.pdf, turn)): page.name
        for page in sources
        for turn in (0, 90, 180, 270)
    }


@pytest.fixture
def run(tmp_path, pool, sources, pictures):
    """Make the pages in a folder of the test, with a server that says what the test wants."""

    def run(says=lambda page, stage, attempt: None, *, pages=sources, html=None, **more):
        with PageServer(pictures, says) as server:
            server.html.update(html or {})
            server.book = make(tmp_path / "work", pages, server.url, pool=pool, **more)
        return server

    return run


def only(stage, said, page=None):
    """Say something to one stage's questions (of one page)."""
    return lambda p, s, attempt: said if s == stage and page in (None, p) else None


def pages_of(folder):
    """Every file of the pages that were made."""
    return {path.name: path.read_bytes() for path in sorted(Path(folder, "pages").iterdir())}


def test_a_page_goes_through_all_stages_once(run, tmp_path):
    server = run(html={("alpha", "refine"): BETTER})
    assert set(server.book.made) == {"alpha", "beta"}
    stages = ("orientation", "layout", "html", "refine")
    assert server.asked == {(page, stage): 1 for page in ("alpha", "beta") for stage in stages}
    assert [server.seen["alpha", stage][0] for stage in stages] == [1, 1, 1, 2]
    assert "400 x 533 CSS pixels" in server.seen["alpha", "html"][1]
    assert '"columns": 1' in server.seen["alpha", "html"][1]
    assert "some twenty letters" in server.seen["alpha", "refine"][1]
    assert "A better page" in (tmp_path / "work/pages/alpha.md").read_text()
    assert "better" not in (tmp_path / "work/pages/beta.md").read_text()
    assert server.book.made["alpha"]["stages"] == ["html", "refine"]
    assert server.book.ledger.usd == pytest.approx(8 * (1000 * 2 + 100 * 8) / 1e6)

    before = pages_of(tmp_path / "work")
    again = run()
    assert not again.asked and pages_of(tmp_path / "work") == before


def test_questions_follow_content_and_not_the_order_of_pages(run, sources):
    run(pages=sources[:1])
    server = run(pages=sources[::-1])
    assert {page for page, _ in server.asked} == {"beta"}


def test_pages_are_turned_upright_and_blank_or_illegible_ones_left_out(run):
    said = {"alpha": upright(90), "beta": upright(blank=True)}
    server = run(lambda page, stage, attempt: said[page] if stage == "orientation" else None)
    assert "533 x 400 CSS pixels" in server.seen["alpha", "html"][1]
    assert server.book.made["alpha"]["turned"] == 90
    assert server.book.dropped == {"beta": "there is nothing to read on it"}
    assert server.asked["beta", "layout"] == 0


@pytest.mark.parametrize(
    ("said", "times", "reason"),
    [
        (completion(None, refusal="I cannot help with that"), 2, "html: refused 2 times, last: I"),
        (completion("{", finish="length"), 2, "html: truncated 2 times, last: cut off"),
        (completion("Sure! Here you are."), 3, "html: malformed 3 times, last: there is no HTML"),
        (completion({"html": "<html><p>" + "x" * 30}), 3, "the HTML ends before </html>"),
        (completion({"html": "<p>" + "x" * 500_000}), 3, "more than 400000"),
        (completion(""), 3, "html: empty 3 times"),
        ({"choices": [{}]}, 3, "html: malformed 3 times, last: not a chat completion"),
        ((400, {}, {"error": {"code": "content_policy_violation", "message": "no"}}), 2, "refused"),
    ],
)
def test_bad_answers_are_asked_for_again_within_limits_and_then_listed(run, said, times, reason):
    server = run(only("html", said, "alpha"))
    assert set(server.book.made) == {"beta"}
    assert reason in server.book.dropped["alpha"]
    assert server.asked["alpha", "html"] == times
    spent = server.book.ledger.by_page["alpha"]
    assert spent["calls_made"] == 2 + times  # bad answers are paid like good ones
    if isinstance(said, dict) and "usage" in said:
        assert spent["cost_usd"] == pytest.approx((2 + times) * (1000 * 2 + 100 * 8) / 1e6)
    assert not run(only("html", said, "alpha")).asked  # what is given up stays so


@pytest.mark.parametrize(
    "said",
    [
        f"```json\n{json.dumps({'html': BETTER})}\n```",
        f"Here is the page.\n```html\n{BETTER}\n```\nI hope it helps!",
        BETTER,
        "<think>{Is it <p>?} ```html</think>\n" + json.dumps({"html": BETTER}),
        "The answer: " + json.dumps({"html": BETTER, "more": 1}) + " Done.",
    ],
)
def test_ragged_answers_are_read(run, sources, said):
    server = run(only("refine", said), pages=sources[:1])
    assert server.asked["alpha", "refine"] == 1
    assert server.book.made["alpha"]["stages"] == ["html", "refine"]


def test_an_answer_that_was_cut_off_is_asked_for_again_with_more_tokens(run, sources):
    cut = only("html", completion("{", finish="length"))
    run(cut, pages=sources[:1])
    server = run(pages=sources[:1], settings=replace(SETTINGS, max_tokens=32_768))
    assert server.asked["alpha", "html"] == 1 and set(server.book.made) == {"alpha"}


def test_a_refusal_to_refine_leaves_the_first_version(run, sources):
    server = run(only("refine", completion(None, refusal="no")), pages=sources[:1])
    assert server.book.made["alpha"]["stages"] == ["html"]


def test_a_ragged_table_is_told_to_the_model_and_drops_the_page_if_it_stays(run):
    press = Press(lambda html: ["table 1: ragged"] if "<table>" in html else [])
    html = {"alpha": RAGGED, "beta": RAGGED, ("beta", "refine"): BETTER}
    server = run(html=html, press=press)
    assert "Mend first:\n- table 1: ragged" in server.seen["alpha", "refine"][1]
    assert server.book.dropped == {"alpha": "table 1: ragged"}
    assert set(server.book.made) == {"beta"}


def test_a_refined_page_with_new_faults_is_not_taken(run, sources):
    press = Press(lambda html: ["does not fit"] if "better" in html else [])
    server = run(html={("alpha", "refine"): BETTER}, press=press, pages=sources[:1])
    assert server.book.made["alpha"]["stages"] == ["html"]


def test_a_language_that_the_html_names_wrongly_is_mended(run, sources):
    server = run(only("layout", looks(language="de")), pages=sources[:1])
    assert 'lang is "en", but the page is in "de"' in server.seen["alpha", "refine"][1]


def test_denser_pages_are_one_more_question_about_the_print(run, sources):
    server = run(pages=sources[:1], settings=replace(SETTINGS, densify=True))
    assert server.asked["?", "densify"] == 1
    assert server.book.made["alpha"]["stages"][-1] == "densify"


# -- endpoints


def test_a_server_that_knows_little_is_asked_in_its_own_terms(tmp_path, pool, sources, pictures):
    def says(page, stage, attempt):
        body = server.seen[page, stage][2]
        for name in ("max_completion_tokens", "temperature", "response_format"):
            if name in body:
                return 400, {}, {"error": {"message": f"unknown field {name}"}}
        return None

    with PageServer(pictures, says) as server:
        book = make(tmp_path, sources[:1], server.url, pool=pool)
    assert set(book.made) == {"alpha"}
    assert server.asked["alpha", "layout"] == 1  # what was learnt is kept
    assert server.seen["alpha", "layout"][2]["max_tokens"] == SETTINGS.max_tokens


def test_an_endpoint_that_is_down_is_one_sentence(tmp_path, pool, sources):
    with PageServer({}) as server:
        url = server.url
    with pytest.raises(ValueError, match=f"{url}.*the same command goes on from here"):
        make(tmp_path, sources, url, pool=pool)
    with Ledger(str(tmp_path / "answers")) as ledger:
        assert ledger.usd == 0  # nothing was sent


@pytest.mark.parametrize(
    "said",
    [
        (500, {}, {"error": {"message": "oops"}}),
        (200, {}, {"error": {"message": "overloaded"}}),
        (200, {}, b'data: {"error": {"message": "overloaded"}}\n\n'),
        (200, {}, b"<html>504 Gateway</html>"),
        (400, {}, {"error": {"code": "x", "message": "more tokens than the context has"}}),
    ],
)
def test_what_fails_this_time_is_asked_by_the_next_call(run, said):
    server = run(only("layout", said, "alpha"))
    assert set(server.book.made) == {"beta"}
    assert "layout: " in server.book.postponed["alpha"]
    assert server.asked["alpha", "layout"] == (1 if said[0] == 400 else 2)
    server = run()
    assert set(server.book.made) == {"alpha", "beta"}
    assert server.asked == {("alpha", s): 1 for s in ("layout", "html", "refine")}


def test_an_endpoint_that_always_fails_stops_the_run(tmp_path, pool, sources, pictures):
    pages = [replace(sources[0], name=f"p{n}") for n in range(9)]
    with PageServer(pictures, lambda *_: (503, {}, {"error": {"message": "busy"}})) as server:
        with pytest.raises(ValueError, match=r"5 requests in a row failed.*busy"):
            make(tmp_path, pages, server.url, pool=pool)
        assert sum(server.asked.values()) <= 2 * 7


def test_only_openais_own_api_needs_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert key_for("http://localhost:8000/v1", "OPENAI_API_KEY") == "none"
    with pytest.raises(ValueError, match="no API key"):
        key_for("https://api.openai.com/v1", "OPENAI_API_KEY")
    for bad in ("localhost:8000", "ftp://host/v1", "http://"):
        with pytest.raises(ValueError, match="--base-url"):
            key_for(bad, "OPENAI_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", "mine")
    assert key_for("http://localhost:8000/v1", "OPENAI_API_KEY") == "mine"


def test_a_wrong_key_stops_the_run(tmp_path, pool, sources, pictures):
    with PageServer(pictures) as server:
        server.key = "another"
        with pytest.raises(ValueError, match="HTTP 401"):
            make(tmp_path, sources, server.url, pool=pool)


def test_a_slow_answer_counts_as_paid_and_is_asked_again(tmp_path, pool, sources, pictures):
    drops = ["drop"]
    with PageServer(pictures, faults=lambda n, r: drops.pop() if n == 0 and drops else None) as s:
        book = make(tmp_path, sources[:1], s.url, pool=pool)
    assert set(book.made) == {"alpha"}
    assert book.ledger.calls["orientation: lost"] == 1
    assert book.ledger.usd > 4 * (1000 * 2 + 100 * 8) / 1e6


def test_an_endpoint_that_lies_about_its_model_is_told_and_the_dearer_price_counts(run, sources):
    def says(page, stage, attempt):
        return completion(upright(), model="gpt-4o") if stage == "orientation" else None

    server = run(says, pages=sources[:1], settings=replace(SETTINGS, model="gpt-4.1-nano"))
    assert server.book.ledger.models == {"gpt-4o": 1, "gpt-4.1-nano": 3}
    dear, cheap = 1000 * 2.5 + 100 * 10, 1000 * 0.1 + 100 * 0.4
    assert server.book.ledger.usd == pytest.approx((dear + 3 * cheap) / 1e6)


def test_another_model_or_template_is_another_question(run, tmp_path, sources):
    run(pages=sources[:1])
    write_templates(str(tmp_path / "mine"))
    path = tmp_path / "mine/refine.md"
    path.write_text(path.read_text() + "\nBe exact.\n")
    own = replace(SETTINGS, templates=str(tmp_path / "mine"))
    assert run(pages=sources[:1], settings=own).asked == {("alpha", "refine"): 1}
    assert sum(run(pages=sources[:1], settings=replace(own, model="x")).asked.values()) == 4


# -- money, disk and kill -9


def test_the_limit_on_money_stops_asking_and_a_higher_one_goes_on(run):
    server = run(settings=replace(SETTINGS, max_usd=0.04))
    assert server.book.postponed and all(
        "--max-usd 0.04 is spent" in why for why in server.book.postponed.values()
    )
    assert server.book.ledger.usd <= 0.04
    asked = set(server.asked)
    server = run(settings=replace(SETTINGS, max_usd=1))
    assert set(server.book.made) == {"alpha", "beta"}
    assert not asked & set(server.asked)


def test_a_limit_needs_a_price(run, tmp_path):
    limited = replace(SETTINGS, model="qwen", max_usd=1.0)
    with pytest.raises(ValueError, match="--price IN,OUT"):
        dry_run("/nowhere", "out", limited, False, str(tmp_path), 1)
    assert run(settings=replace(SETTINGS, model="qwen", max_usd=1, price=Price(1, 1))).book.made


def test_no_answer_is_bought_that_a_full_disk_would_lose(run, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(asker.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ValueError, match="less than 64 MB are free"):
        run()


@pytest.mark.parametrize("how", ["chat", "batch"])
@pytest.mark.parametrize(("number", "when"), [(5, "kill-before"), (6, "kill")])
def test_a_killed_run_ends_like_an_undisturbed_one(
    tmp_path, pool, sources, pictures, how, number, when
):
    html = {("beta", "refine"): BETTER}
    with PageServer(pictures) as whole:
        whole.html.update(html)
        make(tmp_path / "whole", sources, whole.url, pool=pool, batch=how == "batch")
    listed = tmp_path / "pages.json"
    listed.write_text(json.dumps([asdict(page) for page in sources]))
    faults = {number: when}
    with PageServer(pictures, faults=lambda n, request: faults.pop(n, None)) as server:
        server.html.update(html)
        command = [
            sys.executable,
            page_press.__file__,
            tmp_path / "killed",
            server.url,
            listed,
            how,
        ]
        server.victim = subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.DEVNULL,
        )
        assert server.victim.wait(timeout=500) == -9
        make(tmp_path / "killed", sources, server.url, pool=pool, batch=how == "batch")
    assert pages_of(tmp_path / "killed") == pages_of(tmp_path / "whole")
    if how == "batch":
        assert set(server.paid.values()) == {1} and len(server.paid) == len(whole.paid)
    else:  # a repeat has the same key, by which a server knows it
        assert len(server.chats) == len(whole.chats) == 8
        assert sum(server.chats.values()) <= 9


def test_batches_make_the_same_pages_at_half_the_price(tmp_path, pool, sources, pictures):
    says = only("html", completion("no"), "beta")
    books = {}
    for how in (False, True):
        with PageServer(pictures, says) as server:
            books[how] = make(tmp_path / str(how), sources, server.url, pool=pool, batch=how)
    assert pages_of(tmp_path / "True") == pages_of(tmp_path / "False")
    assert books[True].dropped == books[False].dropped != {}
    assert books[True].ledger.usd == pytest.approx(books[False].ledger.usd / 2)
    assert not list((tmp_path / "True/batches/requests").iterdir())


def test_requests_that_a_batch_loses_are_asked_by_the_next_call(tmp_path, pool, sources, pictures):
    with PageServer(pictures) as server:
        server.plan = AlwaysLost()
        book = make(tmp_path, sources[:1], server.url, pool=pool, batch=True)
        assert book.postponed == {"alpha": "orientation: not answered this time"}
        server.plan = {}
        assert set(make(tmp_path, sources[:1], server.url, pool=pool, batch=True).made) == {"alpha"}


class AlwaysLost(dict):
    """A plan in which every request gets lost."""

    def get(self, key, default=None):
        return ["lost"]


# -- templates


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Typeset.", "first line must be `version: NAME`"),
        ("version: 2\n{{width}} {{height}}", r"\{\{layout\}\} is missing"),
        ("version: 2\n{{width}} {{height}} {{layout}} {{colour}}", r"\{\{colour\}\} is not known"),
    ],
)
def test_a_template_that_lacks_something_is_refused(tmp_path, text, reason):
    files = write_templates(str(tmp_path))
    assert len(files) == 5
    with pytest.raises(ValueError, match="is there already"):
        write_templates(str(tmp_path))
    (tmp_path / "html.md").write_text(text)
    with pytest.raises(ValueError, match=reason):
        load_templates(str(tmp_path))
    (tmp_path / "html.md").unlink()
    with pytest.raises(ValueError, match=r"html\.md: no such template"):
        load_templates(str(tmp_path))


def test_what_is_filled_in_is_no_template(tmp_path):
    template = load_templates(None)["html"]
    filled = template.fill({"width": 1, "height": 2, "layout": "{{width}} {{secret}}"})
    assert "{{width}} {{secret}}" in filled and "1 x 2 CSS pixels" in filled


def test_pictures_are_turned_clockwise(pool, sources):
    studio = Studio(pool, {}, 64, False, "")
    upright_, turned = (Image.open(io.BytesIO(studio.picture(sources[0].pdf, t))) for t in (0, 90))
    assert turned.size == upright_.size[::-1]
    assert turned.transpose(Image.Transpose.ROTATE_90).tobytes() == upright_.tobytes()
