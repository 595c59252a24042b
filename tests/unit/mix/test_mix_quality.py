"""decontaminate, filter, stats, review: what a person does to trust a mix."""

import base64
import hashlib
import json
import os
import subprocess
import sys

import httpx
import pytest
from mix_support import killed_at, make_pdf, tree

from olmrl.mix.review_marks import MarkFile, error_rate

HEAD = "---\nprimary_language: {}\nis_rotation_valid: True\nrotation_correction: 0\nis_table: {}\nis_diagram: False\n---"  # noqa: E501
WORDS = [f"word{n}" for n in range(200)]


def pair(root, name, text, language="en", table=False, pdf_text="other"):
    make_pdf(root / f"{name}.pdf", [pdf_text])
    body = HEAD.format(language, table) + (f"\n{text}" if text else "")
    (root / f"{name}.md").write_text(body)


@pytest.fixture
def bench(tmp_path):
    folder = tmp_path / "bench"
    lines = "\n".join(" ".join(WORDS[i : i + 8]) for i in range(0, 160, 8))
    make_pdf(folder / "pdfs/arxiv/one.pdf", [lines], size=(600, 500))
    make_pdf(folder / "pdfs/scan.pdf", ["", ""])
    tests = [
        {"pdf": "arxiv/one.pdf", "page": 1, "url": "https://Example.org/a.pdf#page=3"},
        {"pdf": "scan.pdf", "page": 1, "url": None},
    ]
    (folder / "math.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tests))
    (folder / "claude_original").mkdir()
    reference = HEAD.format("en", False) + "\n" + " ".join(f"ref{n}" for n in range(60))
    (folder / "claude_original/scan_pg1_repeat1.md").write_text(reference)
    return folder


@pytest.fixture
def mixture(tmp_path, bench):
    root = tmp_path / "mix"
    pair(root, "clean", " ".join(f"fresh{n}" for n in range(200)))
    pair(root, "ab/url", "some other text")
    pair(root, "bytes", "nothing alike")
    (root / "bytes.pdf").write_bytes((bench / "pdfs/scan.pdf").read_bytes())
    pair(root, "near", "Header <b>line</b> " + " ".join(WORDS[:120]).upper())
    pair(root, "quote", " ".join(f"own{n}" for n in range(150)) + " " + " ".join(WORDS[:25]))
    pair(root, "ref", " ".join(f"ref{n}" for n in range(55)))
    pair(root, "blank", "")
    rows = [
        {"id": "ab/url", "url": "http://example.org/a.pdf"},
        {"id": "clean", "url": "http://x/y"},
    ]
    (root / "urls.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def found(folder):
    rows = [json.loads(line) for line in (folder / "contaminated.jsonl").read_text().splitlines()]
    return {row["id"]: (row["how"], row["bench"]) for row in rows}


def test_pages_of_the_bench_are_found_and_set_aside(tmp_path, mix, bench, mixture):
    command = ("decontaminate", mixture, tmp_path / "report", "--bench", bench)
    assert mix(*command) == 1
    assert found(tmp_path / "report") == {
        "ab/url": ("url", "arxiv/one.pdf"),
        "bytes": ("pdf", "scan.pdf"),
        "near": ("text", "arxiv/one.pdf"),
        "ref": ("text", "scan_pg1_repeat1.md"),
    }
    summary = json.loads((tmp_path / "report/.mix/decontaminate/summary.json").read_text())
    assert summary["pages_without_url"] == 5
    kept = tmp_path / "kept"
    assert mix("filter", mixture, kept, "--drop", tmp_path / "report/contaminated.jsonl") == 0
    left = {"blank", "clean", "quote"}
    assert {name[:-3] for name in tree(kept) if name.endswith(".md")} == left
    assert json.loads((kept / "urls.jsonl").read_text())["id"] == "clean"
    before = tree(mixture)
    for moment in (2, 4):
        assert killed_at(moment, "after", *command, "--move-to", tmp_path / "aside")
    assert mix(*command, "--move-to", tmp_path / "aside") == 0
    assert {name[:-3] for name in tree(mixture) if name.endswith(".md")} == left
    assert set(found(tmp_path / "report")) == {"ab/url", "bytes", "near", "ref"}
    assert {**tree(mixture), **tree(tmp_path / "aside")} == before


def test_a_stricter_threshold_lets_more_pages_through(tmp_path, mix, bench, mixture):
    mix("decontaminate", mixture, tmp_path / "loose", "--bench", bench, "--threshold", 0.1)
    assert "quote" in found(tmp_path / "loose")
    mix("decontaminate", mixture, tmp_path / "tight", "--bench", bench, "--threshold", 1.0)
    assert "near" not in found(tmp_path / "tight")


def test_what_is_no_bench_is_said(tmp_path, mix, mixture, capsys):
    (tmp_path / "empty/pdfs").mkdir(parents=True)
    assert mix("decontaminate", mixture, tmp_path / "r", "--bench", tmp_path / "empty") == 2
    assert "not a bench folder" in capsys.readouterr().err
    assert mix("filter", mixture, tmp_path / "out") == 2
    assert "nothing to filter by" in capsys.readouterr().err


def test_stats_count_what_is_there(tmp_path, mix):
    train = tmp_path / "processed_00_documents_train"
    pair(train, "a", "one two three", pdf_text="<script>alert(1)</script>")
    pair(train, "b", "<script>alert(1)</script>", language="de", table=True)
    pair(train, "c", "", language="null")
    (train / "broken.md").write_text("---\nno head")
    make_pdf(train / "broken.pdf", ["no head"])
    pair(tmp_path / "books", "d", "word " * 96)
    (train / "a.pdf").unlink()
    make_pdf(train / "a.pdf", ["landscape"], size=(400, 200))
    command = ("stats", train, tmp_path / "books", "--output", tmp_path / "out", "--side", 1000)
    assert mix(*command) == 0
    stats = json.loads((tmp_path / "out/stats.json").read_text())
    assert stats["pages"] == 4
    assert stats["subsets"]["00_documents_train"] == {"pages": 3, "published": 231668}
    assert stats["subsets"]["books"] == {"pages": 1, "published": None}
    assert stats["unit"] == "words" and stats["size"]["sum"] == 3 + 1 + 0 + 96
    assert stats["languages"] == {"en": 2, "de": 1, "none": 1}
    assert stats["shares"] == {"blank": 0.25, "turned": 0.0, "table": 0.25, "diagram": 0.0}
    html = (tmp_path / "out/stats.html").read_text()
    assert html.count("data:image/webp") == 4 and html.count("data:image/png") == 3
    assert "<script>" not in html and "front matter is missing" in html
    assert mix("stats", tmp_path / "out", "--output", tmp_path / "x") == 2


def test_stats_count_tokens_with_a_tokenizer(tmp_path, mix):
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0, ",": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    pair(tmp_path / "in", "x", "a, a")
    more = ("--tokenizer", tmp_path / "tokenizer.json")
    assert mix("stats", tmp_path / "in", "--output", tmp_path / "out", *more) == 0
    assert json.loads((tmp_path / "out/stats.json").read_text())["size"]["sum"] == 3


@pytest.fixture
def reviewed(tmp_path):
    for name in "abcd":
        pair(tmp_path / "in", name, f"text of {name}")
    started = []

    def start():
        process = subprocess.Popen(
            [sys.executable, "-m", "olmrl.mix", "review", tmp_path / "in", tmp_path / "out",
             "--port", "0", "--sample", "3"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        process.stdout.readline()
        return process, httpx.Client(base_url=process.stdout.readline().split()[0])

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_marks_survive_a_kill_and_feed_the_filter(tmp_path, mix, reviewed):
    process, browser = reviewed()
    state = browser.get("/state").json()
    assert len(state["ids"]) == 3 and state["marks"] == {}
    first, second, third = state["ids"]
    assert "<title>" in browser.get("/").text
    assert browser.get("/image?i=1").content[8:12] == b"WEBP"
    assert browser.get("/text?i=0").text.endswith(f"text of {first}")
    browser.post("/mark", json={"id": first, "verdict": "good"})
    browser.post("/mark", json={"id": second, "verdict": "bad", "reason": "text invented"})
    state = browser.post("/mark", json={"id": third, "verdict": "bad", "reason": "oops"}).json()
    assert state["rate"][0] == pytest.approx(2 / 3)
    process.kill()
    process.wait()
    with open(tmp_path / "out/marks.jsonl", "ab") as stream:
        stream.write(b'{"id": "a", "verd')  # torn by a power cut
    _, browser = reviewed()
    state = browser.get("/state").json()
    assert set(state["marks"]) == {first, second, third}
    browser.post("/mark", json={"id": third, "verdict": "none"})
    assert mix("review", tmp_path / "in", tmp_path / "out", "--sample", 3, "--report") == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["judged"] == 2 and summary["reasons"] == {"text invented": 1}
    marks = tmp_path / "out/marks.jsonl"
    assert mix("filter", tmp_path / "in", tmp_path / "kept", "--marks", marks) == 0
    kept = {name[0] for name in tree(tmp_path / "kept") if name.endswith(".md")}
    assert kept == set("abcd") - {second}


def test_the_review_server_refuses_what_is_not_its_own(tmp_path, reviewed):
    _, browser = reviewed()
    assert browser.get("/text?i=99").status_code == 404
    assert browser.get("/text?i=-1").status_code == 404
    assert browser.get("/../../etc/passwd").status_code == 404
    assert browser.post("/mark", json={"id": "a", "verdict": "fine"}).status_code == 400
    assert browser.post("/mark", content=b"{broken").status_code == 400
    form = {"content": '{"id":"a","verdict":"bad"}', "headers": {"Content-Type": "text/plain"}}
    assert browser.post("/mark", **form).status_code == 400
    assert browser.get("/state").json()["marks"] == {}


def test_the_review_is_for_who_has_its_address(tmp_path, reviewed):
    _, browser = reviewed()
    outside = str(browser.base_url.copy_with(path="/"))
    assert httpx.get(outside + "state").status_code == 404
    assert httpx.post(outside + "mark", json={"id": "a", "verdict": "bad"}).status_code == 404
    assert browser.get("/state", headers={"Host": "evil.example"}).status_code == 403
    assert browser.get("/text?i=²").status_code == 404
    answer = browser.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert " style=" not in answer.text
    for kind in ("script", "style"):
        inside = answer.text.partition(f"<{kind}>")[2].partition(f"</{kind}>")[0]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_the_interval_is_wilsons():
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611
    assert error_rate(81, 263)[1:] == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert error_rate(0, 20)[1:] == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert error_rate(0, 0) == (0.0, 0.0, 1.0)


def test_broken_marks_name_their_line(tmp_path):
    (tmp_path / "marks.jsonl").write_text('{"id": "a", "verdict": "good"}\n{"id": 5}\n')
    with pytest.raises(ValueError, match=r"marks.jsonl, line 2: a mark needs a text id"):
        MarkFile(os.fspath(tmp_path / "marks.jsonl"))
