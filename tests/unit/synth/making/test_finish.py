"""What becomes of a derived folder: a second reader, known pages, variants, the manifest."""

import base64
import hashlib
import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reportlab.pdfgen.canvas import Canvas

from olmrl.bench import load_folder
from olmrl.data.render import render_page
from olmrl.markup import front_matter
from olmrl.mix.prices import Price
from olmrl.mix.sheet import SheetPage
from olmrl.synth.__main__ import main
from olmrl.synth.cleaning.licences import licence_of
from olmrl.synth.derived.folder import derive_folder
from olmrl.synth.making import extras
from olmrl.synth.making.extras import Extras, Reader
from olmrl.synth.making.finish import Finish
from olmrl.synth.making.reader import transcription

sys.path.insert(0, str(Path(__file__).parents[2] / "mix"))
from openai_server import OpenAIServer, completion

HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
    "is_table: False\nis_diagram: False\n---\n"
)
WORDS = """
harbour lantern meadow orchard pebble quarry river saddle timber umbrella valley willow anchor
basket candle daisy ember feather garden hollow island jacket kettle ladder mirror needle oyster
"""


def lines(number):
    words = WORDS.split()[number:] + WORDS.split()[:number]
    return [
        f"In chapter {n} the {' '.join(words[5 * n : 5 * n + 6])} of {number * 100 + n} was seen."
        for n in range(5)
    ]


@pytest.fixture
def derived(tmp_path):
    """A derived bench folder of three pages, their folder, and the report."""
    pages = tmp_path / "work" / "chosen"
    pages.mkdir(parents=True)
    for number, name in enumerate(("good", "poor", "hopeless")):
        canvas = Canvas(str(pages / f"{name}.pdf"), pagesize=(500, 300), invariant=1)
        canvas.setFont("Helvetica", 11)
        for at, line in enumerate(lines(3 * number)):
            canvas.drawString(30, 250 - 24 * at, line)
        canvas.save()
        (pages / f"{name}.md").write_text(HEAD + "\n\n".join(lines(3 * number)))
    bench = tmp_path / "work" / "bench"
    return bench, pages, derive_folder(str(pages), str(bench), prove=True)


def pixels_of(data):
    return hashlib.sha256(
        np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).tobytes()
    ).digest()


class Answers:
    """A model that reads `good` well, `poor` without its last line, and nothing of `hopeless`."""

    def __init__(self, pages, side=1288):
        self.pages = {
            hashlib.sha256(render_page(str(path), 1, side).tobytes()).digest(): path.stem
            for path in pages.glob("*.pdf")
        }
        self.truths = {path.stem: path.read_text() for path in pages.glob("*.md")}
        self.asked = []

    def __call__(self, key, body):
        (url,) = [p["image_url"]["url"] for p in body["messages"][0]["content"] if "image_url" in p]
        name = self.pages[pixels_of(base64.b64decode(url.partition(",")[2]))]
        self.asked.append(name)
        assert "response_format" not in body
        text = {
            "good": f"```markdown\n{self.truths['good']}\n```",
            "poor": front_matter.strip(self.truths["poor"]).rpartition("\n\n")[0],
            "hopeless": "I see a page.",
        }[name]
        return completion(text, model="reader-2026", tokens=(1000, 200))


def finish(derived, reader, **chosen):
    bench, pages, report = derived
    facts = {name: {"source": f"/docs/{name}.html", "licence": None} for name in ("good", "poor")}
    done = Finish(Extras(reader=reader, **chosen), facts, seed=0, workers=1)
    done.bench(bench, pages, report)
    return done, report


def reader(server, **changes):
    return replace(
        Reader("reader", base_url=server.url, key_env="TEST_READER_KEY", concurrency=2), **changes
    )


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("TEST_READER_KEY", "test-key")


def manifest(done, folder):
    done.write(str(folder))
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    return {row["page"]: row for row in rows}


def test_a_page_that_a_second_reader_cannot_read_is_dropped_and_failed_tests_are_listed(
    derived, tmp_path
):
    answers = Answers(derived[1])
    with OpenAIServer(answers) as server:
        done, report = finish(derived, reader(server))
    rows = manifest(done, tmp_path)
    assert rows["good"]["pass_rate"] == 1 and rows["good"]["difficulty"] == 0
    assert 0.5 < rows["poor"]["pass_rate"] < 1
    assert rows["poor"]["difficulty"] == round(1 - rows["poor"]["pass_rate"], 4)
    assert rows["poor"]["reader"]["failed"] and rows["good"]["reader"]["failed"] == []
    assert rows["poor"]["reader"]["answered_as"] == {"reader-2026": 1}
    assert rows["poor"]["reader"]["prompt_tokens"] == 1000
    assert "second reader passes" in rows["hopeless"]["dropped"]
    folder = load_folder(derived[0])
    assert {page.pdf for page in folder.pages} == {"pages/good.pdf", "pages/poor.pdf"}
    assert set(rows["poor"]["reader"]["failed"]) <= {case.id for case in folder.cases}
    assert not (derived[0] / "pdfs" / "pages" / "hopeless.pdf").exists()
    assert report["pages"] == 2 and set(report["tests_per_page"]) == {"good", "poor"}
    shown = done.told(SheetPage("poor"))
    assert shown.reader_verdict.startswith("passes ") and "fails: " in shown.notes[0]


def test_strict_drops_the_tests_that_it_fails_also_from_turned_pages(derived, tmp_path):
    answers = Answers(derived[1])
    with OpenAIServer(answers) as server:
        done, report = finish(derived, reader(server, strict=True), variants={"rotate": 1.0})
    rows = manifest(done, tmp_path)
    left = {case.id for case in load_folder(derived[0]).cases}
    failed = rows["poor"]["reader"]["failed"]
    assert failed and not left & set(failed)
    turned = {i.replace("pages_poor_", "pages_poor-rotate_") for i in failed}
    assert not left & turned
    assert report["reader"]["tests_dropped"] > 2 * len(failed)
    told = list(extras.told(report))
    assert told[0] == "  rotate: 3 pages" and told[1].startswith("  reader read 3 pages: 2 pages ")
    assert rows["poor-rotate"]["tests"] == rows["poor"]["tests"]
    assert "its source page" in rows["hopeless-rotate"]["dropped"]
    assert sorted(answers.asked) == ["good", "hopeless", "poor"]  # turned pages are not asked about


def test_nothing_is_asked_twice_whatever_changes_in_the_judgement(derived, tmp_path):
    pages = derived[1]
    answers = Answers(pages)
    with OpenAIServer(answers) as server:
        finish(derived, reader(server))
        again = derive_folder(str(pages), str(tmp_path / "work" / "second"), prove=True)
        _, report = finish(
            (tmp_path / "work" / "second", pages, again), reader(server, share=0.0, strict=True)
        )
    assert len(answers.asked) == 3
    assert report["reader"]["pages_read"] == 3
    assert "hopeless" in report["tests_per_page"] or report["reader"]["tests_dropped"] > 0


def test_money_that_is_spent_leaves_pages_for_the_next_call(derived, tmp_path):
    pages = derived[1]
    answers = Answers(pages)
    with OpenAIServer(answers) as server:
        terms = reader(server, price=Price(10.0, 10.0), max_usd=0.05, concurrency=1)
        done, report = finish(derived, terms)
        rows = manifest(done, tmp_path)
        assert answers.asked == ["good"] and set(report["tests_per_page"]) == {"good"}
        assert rows["good"]["reader"]["cost_usd"] == 0.012
        assert "--max-usd 0.05 is spent" in rows["poor"]["dropped"]
        again = derive_folder(str(pages), str(tmp_path / "work" / "second"), prove=True)
        more = replace(terms, max_usd=1.0)
        finish((tmp_path / "work" / "second", pages, again), more)
    assert answers.asked == ["good", "hopeless", "poor"]


@pytest.mark.parametrize(
    ("status", "words"), [(401, "HTTP 401"), (404, "HTTP 404"), (500, "HTTP 500")]
)
def test_an_endpoint_that_cannot_read_ends_in_one_sentence(derived, status, words):
    fault = (status, {}, {"error": {"message": "no", "code": None}})
    answers = Answers(derived[1])
    with (
        OpenAIServer(answers, faults=lambda number, request: fault) as server,
        pytest.raises(ValueError) as error,
    ):
        finish(derived, reader(server, tries=1))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_refusals_drop_the_page_with_their_reason(derived, tmp_path):
    def answer(key, body):
        return completion(None, refusal="I cannot help with that")

    with (
        OpenAIServer(answer) as server,
        pytest.raises(ValueError, match=r"no page is left.*I cannot help"),
    ):
        finish(derived, reader(server))


def test_a_price_that_nobody_knows_is_asked_for(derived):
    with pytest.raises(ValueError, match="--reader-price IN,OUT"):
        finish(derived, Reader("mine", base_url="http://127.0.0.1:9/v1", max_usd=1.0))


def test_pages_that_occur_in_a_bench_are_dropped_and_listed(derived, tmp_path):
    pages = derived[1]
    known = tmp_path / "known"
    (tmp_path / "one").mkdir()
    for suffix in (".pdf", ".md"):
        (tmp_path / "one" / f"copy{suffix}").write_bytes((pages / f"poor{suffix}").read_bytes())
    derive_folder(str(tmp_path / "one"), str(known))
    done, report = finish(derived, None, against=(str(known),), variants={"rotate": 1.0})
    assert set(report["in_benches"]) == {"poor"}
    assert set(report["tests_per_page"]) == {"good", "hopeless", "good-rotate", "hopeless-rotate"}
    assert "shares 100% of its text with pages/copy" in manifest(done, tmp_path)["poor"]["dropped"]
    with pytest.raises(ValueError, match="pdfs: no such folder"):
        finish(derived, None, against=(str(pages),))


def test_a_manifest_has_all_pages_and_variants_cost_nothing_again(derived, tmp_path):
    done, _ = finish(derived, None, variants={"rotate": 1.0})

    def known(name):
        return {"model": "m", "cost_usd": 0.5, "source": f"{name}.pdf"}

    done.write(str(tmp_path), ["good", "lost"], known)
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    rows = {row["page"]: row for row in map(json.loads, lines) if "page" in row}
    assert rows["good"]["cost_usd"] == 0.5 and rows["good-rotate"]["model"] == "m"
    assert "cost_usd" not in rows["good-rotate"] and rows["good-rotate"]["of"] == "good"
    assert sum("page" not in json.loads(line) for line in lines) == 1  # `lost`, told by `known`


def test_without_extras_the_folder_stays_as_it_was(derived, tmp_path):
    bench, _, report = derived
    before = {path.name: path.read_bytes() for path in bench.glob("*.jsonl")}
    counts = dict(report["tests_per_page"])
    done, report = finish(derived, None)
    assert {path.name: path.read_bytes() for path in bench.glob("*.jsonl")} == before
    assert report["tests_per_page"] == counts
    rows = manifest(done, tmp_path)
    assert rows["good"]["source"] == "/docs/good.html" and rows["good"]["tests"] == counts["good"]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("plain", "plain"),
        ("```markdown\n# Head\n\ntext\n```", "# Head\n\ntext"),
        (f"{HEAD}body", "body"),
        (f"```\n{HEAD}body\n```\n", "body"),
        ("text\n```\ncode\n```", "text\n```\ncode\n```"),
    ],
)
def test_what_models_put_around_a_transcription_goes(answer, text):
    assert transcription(answer) == text


@pytest.mark.parametrize(
    ("head", "licence"),
    [
        ('<link rel="license" href="https://x.org/by/4.0/">', "https://x.org/by/4.0/"),
        ('<meta name="DCTERMS.license" content="CC BY 4.0">', "CC BY 4.0"),
        ('<meta name="copyright" content="(c)  Somebody">', "(c) Somebody"),
        ('<meta name="copyright" content="x"><meta property="og:license" content="MIT">', "MIT"),
        ('<link rel="stylesheet" href="a.css">', None),
        ("", None),
    ],
)
def test_a_licence_is_what_the_source_states(head, licence):
    source = f"<html><head>{head}</head><body>text</body></html>"
    assert licence_of(source.encode()) == licence
    linked = "<body><a rel='license' href='https://x.org/cc0'>CC0</a></body>"
    assert licence_of(linked.encode()) == "https://x.org/cc0"
    assert licence_of(b"") is None and licence_of(b"\x00\xff") is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--variants", "scam"], "'scam' is unknown"),
        (["--strict"], "name a --reader"),
        (["--reader", "m", "--reader-share", "2"], "must be in 0..1"),
        (["--reader", "m", "--reader-max-usd", "0"], "must be more than 0"),
        (["--reader", "m", "--reader-price", "1"], "must be two numbers"),
    ],
)
def test_mistakes_end_in_one_sentence(tmp_path, capsys, words, told):
    (tmp_path / "a.html").write_text("<p>text</p>")
    try:
        code = main(["from-html", str(tmp_path), str(tmp_path / "out"), *words])
    except SystemExit as stop:
        code = stop.code
    assert code == 2 and told in capsys.readouterr().err.splitlines()[-1]
