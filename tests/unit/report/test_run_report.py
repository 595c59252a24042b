"""report.html: whole without a server, deaf to what models write, and it opens with the answer."""

import base64
import hashlib
import re
from html import unescape

import pytest
from report_run import PAGES, new_run, rollout, write_evaluation, write_group, write_steps

from olmrl import storage
from olmrl.report.html import TEMPLATES
from olmrl.report.run import compare, write
from olmrl.report.views import MOMENTS, part
from olmrl.run.sinks import JsonlSink

HOSTILE = (
    "</pre></style></details><script>alert(1)</script>"
    '<img src="http://evil/x.png" onerror=alert(2)>'
    "\"'><a href=javascript:alert(3)>{{ 7*7 }}{% raw %}<!-- &amp; \ud800 \0 end"
)
ID = HOSTILE.replace("\ud800", "")


def a_run(folder, text="a b d", page_id=PAGES[0]):
    directory = new_run(folder)
    write_steps(directory, 1, 40)
    for step, passed in ((0, [1, 1, 2]), (20, [2, 3, 3]), (40, [3, 4, 4])):
        texts = {page_id: f"{text} {step}", PAGES[1]: "b"}
        write_evaluation(directory, step, passed, texts=texts)
    for step in (1, 2, 3, 4, 40):
        rows = [rollout(text, [True, step > 2], total=k / 3, version=f"1.{step}") for k in range(8)]
        write_group(directory, step, rows, page_id=page_id)
    return directory


def scrubbed(html):
    """The document without its style sheet."""
    return re.sub(r"<style>.*?</style>", "", html, flags=re.S)


def test_it_opens_with_the_answer(tmp_path):
    directory = a_run(tmp_path)
    html = write(directory).read_text("utf-8")
    order = ["rose from 0.333 to 0.917 (+0.583 ± 0.167)", 'id="heldout"', 'id="curves"',
             'id="time"', 'id="groups"']  # fmt: skip
    places = [html.index(text) for text in order]
    assert places == sorted(places)
    assert "they take turns" in html
    assert re.search(r"step 40 of 40, \d{4}-\d\d-\d\d \d\d:\d\d UTC", html), "true for ever"
    assert "5 groups were recorded" in html and "2 of 8 completions" in html
    assert html.count('<div class="panel">') == 2 * 3
    assert re.search(r"weights of step\s*<b>40</b>", html), "not 1.40, which reads as a number"


def test_what_models_and_pages_say_is_shown_as_text(tmp_path):
    directory = a_run(tmp_path, HOSTILE, ID)
    rows = [rollout(HOSTILE, [False], error=HOSTILE, note=HOSTILE)]
    write_group(directory, 41, rows, page_id=ID, fate=HOSTILE, truth=HOSTILE)
    directory.bad_page(f"{HOSTILE}::1", HOSTILE, HOSTILE)
    directory.dropped_group(HOSTILE, HOSTILE, HOSTILE)
    JsonlSink(directory.metrics).write(41, {f"reward/{HOSTILE.replace('/', '')}/mean": 1.0})
    html = write(directory).read_text("utf-8")
    body = scrubbed(html)
    for tag in ("<script", "<a href=j", "<iframe", "onerror=alert(2)>"):
        assert tag not in body
    assert html.count("<style>") == html.count("</style>") == 1 and "<!--" not in body
    assert not re.search(r'<img src="(?!data:image/webp)', body)
    assert "{{ 7*7 }}" in unescape(body) and body.count("&lt;script&gt;") > 20


def test_nothing_is_fetched_or_run_and_only_its_own_style_is_used(tmp_path):
    html = write(a_run(tmp_path)).read_text("utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    (style,) = re.findall(r"<style>(.*?)</style>", html, flags=re.S)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert unescape(policy).split("; ") == [
        "default-src 'none'", "img-src data:", f"style-src 'sha256-{digest}'", "base-uri 'none'",
        "form-action 'none'",
    ]  # fmt: skip
    assert " style=" not in html and "<script" not in html
    assert not re.search(r"(src|href)\s*=\s*[\"']?(?!data:|#)\w", scrubbed(html))


@pytest.mark.parametrize("kind", ["empty", "SFT", "no evaluation", "older", "no pictures"])
def test_every_kind_of_run_has_a_report(tmp_path, kind):
    directory = new_run(tmp_path)
    said = {
        "empty": "no step is finished",
        "SFT": "held-out loss fell from 2.000 to 1.000",
        "no evaluation": "nothing here says whether reading improved",
        "older": "different pages",
        "no pictures": "picture of this page is missing",
    }
    if kind == "SFT":
        for step in range(3):
            JsonlSink(directory.metrics).write(step, {"loss/sft": 1.0, "eval/loss": 2 - step / 2})
    elif kind == "no evaluation":
        write_steps(directory, 1, 9)
    elif kind != "empty":
        directory = a_run(tmp_path)
    if kind == "older":
        for evaluation in directory.evaluations():
            del evaluation["by_page"]
            directory.write_evaluation(evaluation["step"], evaluation)
    if kind == "no pictures":
        for file in (tmp_path / "pages").iterdir():
            file.unlink()
    html = write(directory).read_text("utf-8")
    assert said[kind] in html and html.rstrip().endswith("</html>")


def test_a_long_run_does_not_make_a_large_report(tmp_path):
    directory = new_run(tmp_path)
    write_steps(directory, 1, 1000)
    for step in range(0, 5000, 200):
        write_evaluation(directory, step, [1, 2, 3])
        rows = [rollout("word " * 300, [True])] * 12
        write_group(directory, step, rows, truth="word " * 300)
    html = write(directory).read_text("utf-8")
    assert len(html) < 1_000_000
    assert html.count('<div class="panel">') == 2 * MOMENTS
    assert 'for="h0-0-0"' in html and 'for="h0-0-4800"' in html


def test_two_runs_stand_beside_each_other(tmp_path):
    first, second = a_run(tmp_path / "one"), a_run(tmp_path / "two" / "one")
    html = compare([first, second])
    assert html.count("rose from 0.333 to 0.917") == 2
    parent = first.path.parent.name
    assert f"{parent}/one: reward/mean" in html and "two/one: reward/mean" in html
    assert html.count('<div class="panel">') == 2 * 2 * 3
    assert compare([first]).count('class="headline"') == 1


@pytest.mark.parametrize(
    ("run", "begins"),
    [(None, "step 60 page 1 of a.pdf"), ("one/run", "step 60 one/run page 1 of a.pdf")],
)
def test_the_words_of_a_groups_line_stand_apart(run, begins):
    line = {"step": 60, "run": run, "number": 0, "page_id": "page 1 of a.pdf", "passed": 0.5}
    line |= {
        "reward": 0.3,
        "advantage": 0.2,
        "staleness": 1,
        "failures": 2,
        "fate": "zero_variance",
    }
    shown = part("group_line", line)
    rest = "tests 50 % reward 0.30 advantage 0.20 1 step stale 2 rewards failed zero variance"
    assert " ".join(re.sub("<[^>]*>", "", shown).split()) == f"{begins} {rest}"
    assert (
        "column-gap"
        in re.search(r"\.line-of-group \{.*?\}", (TEMPLATES / "run.css").read_text("utf-8"))[0]
    )


def test_what_was_found_adds_up_in_the_report_and_unpaired_files_are_listed(tmp_path):
    directory = a_run(tmp_path)
    found = {"unpaired": [f"/data/{ID}.pdf", "/data/X.MD"], "refused": 4, "dropped": 1, "kept": 16}
    storage.write_json(directory.found, found)
    html = scrubbed(write(directory).read_text("utf-8"))
    text = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))
    assert "Pages found what became of them count unpaired 2 refused 4 dropped 1 kept 16" in text
    assert "Files that are no pages (2)" in text and "/data/X.MD" in text
    assert "<script" not in html
