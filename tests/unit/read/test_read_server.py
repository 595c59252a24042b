"""`olmrl read --base-url`: whole documents through a scripted server on this machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import fsspec
import pytest
from reading_server import ReadingServer, whole, write_pages

from olmrl.data.prompts import load_prompt
from olmrl.export.card import model_card
from olmrl.mix.__main__ import main as mix
from olmrl.storage import read_jsonl

ROOT = Path(__file__).parents[3]


def by_width(size, attempt):
    return whole(f"page {min(size)}")


def test_documents_become_markdown_with_page_breaks(read, library, tmp_path):
    out = tmp_path / "out"
    with ReadingServer(by_width) as server:
        code, said = read(server, library, out, "--price-per-hour", 3.6)
    assert code == 0
    assert (out / "one.md").read_text() == (
        "<!-- page 1 -->\n\npage 10\n\n<!-- page 2 -->\n\npage 20\n\n<!-- page 3 -->\n\npage 30\n"
    )
    assert (out / "sub/two.md").read_text() == "<!-- page 1 -->\n\npage 40\n"
    assert "4 pages read" in said and "pages/s" in said and "per 1,000 pages at $3.6" in said
    summary = json.loads((out / "summary.json").read_text())
    assert summary["pages"] == {"read": 4, "fallback": 0, "bad": 0}
    assert summary["tokens"] == {"prompt": 400, "completion": 4 * len(whole("page 10"))}
    cost, speed = (summary["this_call"][k] for k in ("usd_per_1000_pages", "pages_per_s"))
    assert cost == pytest.approx(1.0 / speed, rel=0.05)  # 3.6 dollars an hour: 0.001 a second
    assert (out / "bad_pages.jsonl").read_text() == ""


def test_a_page_is_asked_for_as_models_are_trained(read, library, tmp_path):
    with ReadingServer(by_width) as server:
        read(server, library / "sub", tmp_path / "out", "--max-tokens", 77)
    ((size, body, headers),) = server.asked
    assert size == (40, 100)
    assert body["prompt"] == load_prompt("olmrl-v1") and body["order"] == ["text", "image_url"]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("reader", 0.1, 77)
    assert headers["Authorization"] == "Bearer EMPTY"


@pytest.mark.parametrize(
    ("answers", "text", "temperatures"),
    [
        ([("cut", "length"), "no head", whole("third")], "third", [0.1, 0.1, 0.2]),
        ([429, whole("after a pause")], "after a pause", [0.1, 0.1]),
        ([503, 503, whole("later")], "later", [0.1, 0.1, 0.1]),
    ],
)
def test_attempts_climb_the_ladder_and_busy_servers_are_asked_again(
    read, library, tmp_path, answers, text, temperatures
):
    with ReadingServer(lambda size, attempt: answers[attempt]) as server:
        code, _ = read(server, library / "sub", tmp_path / "out")
    assert code == 0
    assert text in (tmp_path / "out/two.md").read_text()
    assert [body["temperature"] for _, body, _ in server.asked] == temperatures


def test_a_rotated_page_is_turned_and_described_as_it_lies(read, library, tmp_path):
    def answer(size, attempt):
        return whole("upright") if size == (100, 40) else whole("sideways", turn=90)

    with ReadingServer(answer) as server:
        read(server, library / "sub", tmp_path / "out", "--format", "dolma")
    assert server.sizes == [(40, 100), (100, 40)]
    ((_, document),) = read_jsonl(tmp_path / "out/results/two.jsonl")
    assert document["text"] == "upright"
    assert document["attributes"]["rotation_correction"] == [90]
    assert document["attributes"]["is_rotation_valid"] == [False]


@pytest.mark.parametrize(
    ("fallback", "text"), [("pdf-text", "layer 40"), ("answer", "endless"), ("empty", "")]
)
def test_a_page_without_a_whole_answer_is_listed_and_something_stands_for_it(
    read, library, tmp_path, fallback, text
):
    out = tmp_path / "out"
    with ReadingServer(lambda size, attempt: ("endless", "length")) as server:
        code, said = read(server, library / "sub", out, "--fallback", fallback)
    assert code == 0 and len(server.asked) == 8
    assert (out / "two.md").read_text().removeprefix("<!-- page 1 -->").strip() == text
    ((_, row),) = read_jsonl(out / "bad_pages.jsonl")
    assert (row["page"], row["kind"]) == (1, "fallback") and "length" in row["reason"]
    assert "1 without a whole answer" in said


def test_bad_pdfs_and_pages_are_listed_and_the_others_read(read, library, tmp_path):
    (library / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    write_pages(library / "narrow.pdf", [50, 0.1])
    with ReadingServer(by_width) as server:
        code, said = read(server, library, tmp_path / "out", "--format", "markdown,dolma")
    assert code == 0 and "2 bad" not in said
    rows = [row for _, row in read_jsonl(tmp_path / "out/bad_pages.jsonl")]
    assert [(Path(row["path"]).name, row["page"]) for row in rows] == [
        ("broken.pdf", 0), ("narrow.pdf", 2)
    ]  # fmt: skip
    assert (tmp_path / "out/narrow.md").read_text().endswith("<!-- page 2: not read -->\n")
    assert not (tmp_path / "out/broken.md").exists()
    ((_, document),) = read_jsonl(tmp_path / "out/results/narrow.jsonl")
    assert document["attributes"]["pdf_page_numbers"] == [[0, len("page 50"), 1]]


def test_what_failed_is_tried_again_and_what_is_read_is_not(read, library, tmp_path):
    out = tmp_path / "out"
    refused = lambda size, attempt: 400 if min(size) == 20 else by_width(size, attempt)  # noqa: E731
    with ReadingServer(refused) as server:
        code, said = read(server, library, out)
    assert code == 1 and "1 failed" in said and "tries the failed ones again" in said
    assert "<!-- page 2: not read -->" in (out / "one.md").read_text()
    with ReadingServer(by_width) as server:
        code, _ = read(server, library, out)
        assert code == 0 and server.sizes == [(20, 100)]
        text = (out / "one.md").read_text()
        assert "page 20" in text and "not read" not in text
        assert (out / "bad_pages.jsonl").read_text() == ""
        assert read(server, library, out)[0] == 0 and len(server.asked) == 1


def test_new_pdfs_and_new_formats_need_no_second_reading(read, library, tmp_path):
    out = tmp_path / "out"
    with ReadingServer(by_width) as server:
        read(server, library / "one.pdf", out)
        read(server, library, out)
        assert sorted(server.sizes) == [(10, 100), (20, 100), (30, 100), (40, 100)]
        read(server, library, out, "--format", "text,dolma")
        assert len(server.asked) == 4
        code, said = read(server, library, out, "--max-tokens", 5)
    assert (out / "one.txt").read_text() == "page 10\n\fpage 20\n\fpage 30\n"
    assert code == 2 and "max_tokens=8000, but now it is 5" in said


def test_results_are_what_mix_workspace_takes(read, library, tmp_path):
    with ReadingServer(by_width) as server:
        read(server, library, tmp_path / "out", "--format", "dolma")
    assert mix(["workspace", str(tmp_path / "out"), str(tmp_path / "pairs")]) == 0
    pairs = sorted((tmp_path / "pairs").rglob("*.md"))
    texts = sorted(path.read_text() for path in pairs)
    assert texts == sorted(whole(f"page {width}") for width in (10, 20, 30, 40))


@pytest.mark.parametrize(
    ("status", "message"), [(401, "HTTP 401"), (404, "HTTP 404"), (None, "goes on from here")]
)
def test_a_server_that_refuses_everything_ends_the_call_in_one_sentence(
    read, library, tmp_path, status, message
):
    with ReadingServer(lambda size, attempt: status) as server:
        if status is None:
            server.http.server_close()
        code, said = read(server, library, tmp_path / "out", "--tries", 2)
    last = said.splitlines()[-1]
    assert code == 2 and last.startswith("python -m olmrl.read: --base-url")
    assert message in last and server.url in last


def test_a_folder_whose_pdfs_are_all_damaged_is_no_success(read, tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans/a.pdf").write_bytes(b"%PDF-1.4 nothing")
    with ReadingServer(by_width) as server:
        code, said = read(server, tmp_path / "scans", tmp_path / "out")
    assert code == 2 and "scans: no usable page in it; reasons: " in said.splitlines()[-1]


def test_a_model_folder_says_how_to_read_and_the_server_what_it_is_called(
    library, tiny, tmp_path, capsys
):
    from olmrl.config import GrpoConfig, load
    from olmrl.read.__main__ import main

    model = tmp_path / "model"
    shutil.copytree(tiny, model)
    settings = ["data.longest_side=60", "data.prompt_order=image_first"]
    config = load(GrpoConfig, None, ["model.path=x", "data.train=d", *settings]).model_dump(
        mode="json"
    )
    (model / "README.md").write_text(model_card(config, 1, tmp_path / "none", name="model"))
    words = [str(library / "sub"), "--model", str(model), "-o", str(tmp_path / "out")]
    with ReadingServer(by_width) as server:
        assert main([*words, "--base-url", server.url, "--served-name", "nice"]) == 0
    ((size, body, _),) = server.asked
    assert size == (24, 60) and body["order"] == ["image_url", "text"] and body["model"] == "nice"
    assert "as in its training" in capsys.readouterr().err


@pytest.fixture
def bucket(monkeypatch):
    """A local S3; gives its file system, with an empty bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    fsspec.filesystem("s3").clear_instance_cache()
    fs = fsspec.filesystem("s3")
    fs.mkdir("bucket")
    yield fs
    fsspec.filesystem("s3").clear_instance_cache()
    server.stop()


def test_documents_and_texts_may_be_remote(read, library, bucket, capsys):
    pytest.importorskip("s3fs", reason="remote paths are an extra")
    bucket.put(str(library), "bucket/scans", recursive=True)
    with ReadingServer(by_width) as server:
        code, said = read(server, "s3://bucket/scans/sub", "s3://bucket/texts")
        assert code == 0, said
        assert read(server, "s3://bucket/scans", "s3://bucket/all")[0] == 0
        assert read(server, "s3://bucket/scans", "s3://bucket/all")[0] == 0
    assert len(server.asked) == 1 + 4
    assert bucket.cat_file("bucket/texts/two.md") == b"<!-- page 1 -->\n\npage 40\n"
    assert bucket.exists("bucket/all/sub/two.md") and bucket.exists("bucket/all/bad_pages.jsonl")


def test_two_pdfs_of_one_name_are_refused(read, library, tmp_path):
    write_pages(tmp_path / "other" / "one.pdf", [10])
    with ReadingServer(by_width) as server:
        code, said = read(server, library, tmp_path / "out", tmp_path / "other")
        assert code == 2 and "would both be written as one" in said
        read(server, library / "one.pdf", tmp_path / "out")
        code, said = read(server, tmp_path / "other" / "one.pdf", tmp_path / "out")
    assert code == 2 and "choose another output folder" in said


def test_ctrl_c_ends_at_once_and_says_how_to_go_on(library, tmp_path):
    victim, answered = [], threading.Event()

    def interrupt(number):
        victim[0].send_signal(signal.SIGINT)
        answered.wait(120)  # a server that never answers

    with ReadingServer(by_width, before=interrupt) as server:
        command = [sys.executable, "-m", "olmrl.read", str(library / "sub"), "--model", "reader"]
        command += ["--base-url", server.url, "-o", str(tmp_path / "out")]
        victim.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True))
        _, said = victim[0].communicate(timeout=100)
        answered.set()
    assert victim[0].returncode == 130
    again = "stopped; the same command goes on from here"
    assert said.splitlines()[-1] == f"python -m olmrl.read: {again}"


@pytest.mark.parametrize("kill_at", [1, 4])
def test_a_killed_call_goes_on_and_leaves_the_files_of_an_undisturbed_one(
    read, library, tmp_path, kill_at
):
    write_pages(library / "more.pdf", range(50, 58))
    command = [sys.executable, "-m", "olmrl.read", str(library), "--model", "reader"]
    command += ["--longest-side", "100", "--concurrency", "1", "--format", "markdown,dolma,text"]

    def files(out):
        return {
            str(path.relative_to(out)): path.read_text()
            for path in out.rglob("*")
            if path.is_file() and ".read" not in path.parts and path.name != "summary.json"
        }

    with ReadingServer(by_width) as server:
        read(server, library, tmp_path / "whole", "--format", "markdown,dolma,text")
    victim = []

    def kill(number):
        if number == kill_at:
            os.kill(victim[0].pid, signal.SIGKILL)

    with ReadingServer(by_width, before=kill) as server:
        command += ["--base-url", server.url, "-o", str(tmp_path / "killed")]
        victim.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL))
        assert victim[0].wait(60) == -signal.SIGKILL
        code, _ = read(server, library, tmp_path / "killed", "--format", "markdown,dolma,text")
    assert code == 0
    expected, found = files(tmp_path / "whole"), files(tmp_path / "killed")
    began = {
        json.loads(text)["added"]
        for name, text in found.items()
        if name.endswith(".jsonl") and text
    }
    assert len(began) == 1, "one date, whichever call wrote the document"
    for name, text in expected.items():
        if name.endswith("l") and text:
            mine, other = json.loads(text), json.loads(found[name])
            for value in (mine, other):
                del value["added"], value["created"]
            assert mine == other
        else:
            assert found[name] == text
    assert expected.keys() == found.keys()
    assert len(server.asked) <= 12 + 2, "at most the pages in flight were read twice"


def test_documents_have_names_of_any_letters(read, tmp_path):
    names = ["한국어", "e\u0301te\u0301", "\u202egnp", "co:lon", "50%", "x" * 195]
    for width, name in enumerate(names, 20):
        write_pages(tmp_path / "in" / f"{name}.PDF", [width])
    with ReadingServer(by_width) as server:
        code, said = read(server, tmp_path / "in", tmp_path / "out")
    assert code == 0 and "6 documents: 6 pages read" in said
    texts = {p.read_text() for p in (tmp_path / "out").glob("*.md")}
    assert texts == {f"<!-- page 1 -->\n\npage {20 + n}\n" for n in range(6)}
    keys = [headers["Idempotency-Key"] for _, _, headers in server.asked]
    assert len(set(keys)) == 6


def test_another_question_about_a_page_is_no_repeat(read, library, tmp_path):
    with ReadingServer(by_width) as server:
        read(server, library / "sub", tmp_path / "a", "--max-tokens", 77)
        read(server, library / "sub", tmp_path / "b", "--max-tokens", 77)
        read(server, library / "sub", tmp_path / "c", "--max-tokens", 78)
    first, again, other = (headers["Idempotency-Key"] for _, _, headers in server.asked)
    assert first == again != other
