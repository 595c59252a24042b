"""openai-build and openai-collect: what is sent, what comes back, what is refused."""

import base64
import hashlib
import io
import json
import shutil

import pytest
from mix_support import killed_at, make_pdf, tree
from openai_server import completion, page_answer
from PIL import Image

from olmrl.markup import front_matter
from olmrl.mix import prompts
from olmrl.mix.verbs.openai_build import custom_id

SHA = hashlib.sha256(b"Transcribe {anchor_text}").hexdigest()


def sent(folder):
    names = sorted(folder.glob("batch_requests_*.jsonl"))
    return [json.loads(line) for name in names for line in name.read_text().splitlines()]


@pytest.fixture(scope="module")
def pdfs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pdfs")
    for name in ("b", "a.pdf-3", "sub/ü x", "c", "d"):
        make_pdf(folder / f"{name}.pdf", [f"page {name}"])
    make_pdf(folder / "long.pdf", ["one", "two"])
    make_pdf(folder / "secret.pdf", ["x"], encrypt="password")
    (folder / "empty.pdf").write_bytes(b"")
    (folder / "torn.pdf").write_bytes((folder / "b.pdf").read_bytes()[:300])
    return folder


def test_requests_ask_for_strict_json_about_the_page(tmp_path, mix, pdfs):
    assert mix("openai-build", pdfs, tmp_path / "out", "--side", 400, "--workers", 2) == 0
    rows = sent(tmp_path / "out")
    assert [row["custom_id"] for row in rows][:4] == ["a.pdf-3", "b", "c", "d"]
    body = rows[1]["body"]
    assert (body["model"], body["temperature"], body["max_completion_tokens"]) == (
        "gpt-4.1", 0.1, 12000,
    )  # fmt: skip
    text, image = body["messages"][0]["content"]
    assert "300 pixels wide and 400 pixels high" in text["text"]
    png = base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(png)).size == (300, 400)
    schema = body["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["required"] == list(page_answer())
    summary = json.loads((tmp_path / "out/.mix/openai-build/summary.json").read_text())
    reasons = {row["key"]: row["reason"] for row in summary["problems"]}
    assert set(reasons) == {"empty.pdf", "long.pdf", "secret.pdf", "torn.pdf"}
    assert "empty" in reasons["empty.pdf"] and "2 pages" in reasons["long.pdf"]
    assert "encrypted" in reasons["secret.pdf"]


def test_files_roll_over_below_the_bound_and_a_request_above_it_is_listed(tmp_path, mix, pdfs):
    options = ("--side", 300, "--workers", 1)
    mix("openai-build", pdfs, tmp_path / "one", *options)
    sizes = [len(json.dumps(row)) + 1 for row in sent(tmp_path / "one")]
    bound = sizes[0] + sizes[1]
    assert mix("openai-build", pdfs, tmp_path / "two", *options, "--max-bytes", bound) == 0
    parts = sorted((tmp_path / "two").glob("*.jsonl"))
    assert len(parts) > 1 and all(part.stat().st_size <= bound for part in parts)
    assert sent(tmp_path / "two") == sent(tmp_path / "one")
    assert mix("openai-build", pdfs, tmp_path / "three", *options, "--max-bytes", 100) == 2
    assert sent(tmp_path / "three") == []


def test_killed_build_goes_on_to_the_same_files(tmp_path, mix, pdfs):
    command = ["openai-build", pdfs, None, "--side", 200, "--max-bytes", 9000, "--workers", 1]
    command[2] = tmp_path / "whole"
    assert mix(*command) == 0
    for moment in (0, 3):
        command[2] = tmp_path / f"killed{moment}"
        assert killed_at(moment, "after" if moment % 2 else "before", *command)
        assert mix(*command) == 0
        assert tree(command[2]) == tree(tmp_path / "whole")


def test_other_settings_on_a_started_folder_are_refused(tmp_path, mix, pdfs, capsys):
    assert mix("openai-build", pdfs, tmp_path / "out", "--side", 200) == 0
    assert mix("openai-build", pdfs, tmp_path / "out", "--side", 300) == 2
    assert "started with side=200, but now it is 300" in capsys.readouterr().err


def test_custom_ids_are_plain_and_distinct():
    assert custom_id("ab/cd-3.pdf") == "ab/cd-3"
    assert custom_id("a.pdf-3.pdf") == "a.pdf-3"
    odd = [
        custom_id(name) for name in ("../x.pdf", "ü.pdf", "ö.pdf", "a b.pdf", "a_b.pdf", "/x.pdf")
    ]
    assert len(set(odd)) == 6
    assert all(set(i) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-") for i in odd)
    assert all(".." not in i and not i.startswith("/") for i in odd)
    assert len(custom_id("x" * 500 + ".pdf")) < 120


def collect(mix, tmp_path, pdfs, replies, *options):
    """Run openai-collect over {custom_id: response body or result row}."""
    folder = tmp_path / "results"
    folder.mkdir(exist_ok=True)
    rows = [
        {"custom_id": key, "response": {"status_code": 200, "body": body}, "error": None}
        for key, body in replies.items()
    ]
    (folder / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = mix("openai-collect", folder, pdfs, tmp_path / "pairs", *options)
    retry = (tmp_path / "pairs/retry.jsonl").read_text().splitlines()
    return code, {row["custom_id"]: row["reason"] for row in map(json.loads, retry)}


def test_answers_become_pairs_in_our_rotation_and_null_stays_null(tmp_path, mix, pdfs):
    turned = page_answer(is_rotation_valid=False, rotation_correction=90)
    blank = page_answer(primary_language=None, natural_text=None)
    replies = {"b": turned, "c": blank, "d": page_answer(primary_language="null")}
    code, retry = collect(mix, tmp_path, pdfs, {k: completion(v) for k, v in replies.items()})
    assert (code, retry) == (0, {})
    response = front_matter.parse((tmp_path / "pairs/b.md").read_text())
    assert response.rotation_correction == 270  # 90 clockwise is 270 counter-clockwise
    text = (tmp_path / "pairs/c.md").read_text()
    assert text.startswith("---\nprimary_language: null\n") and text.endswith("\n---")
    assert front_matter.parse((tmp_path / "pairs/d.md").read_text()).primary_language is None
    assert (tmp_path / "pairs/b.pdf").read_bytes() == (pdfs / "b.pdf").read_bytes()


@pytest.mark.parametrize(("degrees", "ours"), [(0, 0), (90, 270), (180, 180), (270, 90)])
def test_clockwise_labels_are_turned_and_counter_clockwise_ones_kept(
    tmp_path, mix, pdfs, degrees, ours
):
    reply = {"b": completion(page_answer(rotation_correction=degrees, is_rotation_valid=False))}
    collect(mix, tmp_path, pdfs, reply)
    assert front_matter.parse((tmp_path / "pairs/b.md").read_text()).rotation_correction == ours
    shutil.rmtree(tmp_path / "pairs")
    collect(mix, tmp_path, pdfs, reply, "--rotation", "counter-clockwise")
    assert front_matter.parse((tmp_path / "pairs/b.md").read_text()).rotation_correction == degrees


def test_unusable_answers_are_listed_and_leave_nothing_behind(tmp_path, mix, pdfs):
    good = page_answer()
    replies = {
        "b": completion(good, finish="length"),
        "c": completion(None, refusal="I cannot help with that"),
        "d": completion('{"primary_language": "en"'),
        "a.pdf-3": completion({**good, "rotation_correction": 45}),
        "sub/ü x": completion({**good, "is_table": "yes"}),
        "nowhere": completion(good),
        "../../escape": completion(good),
        "/etc/passwd": completion(good),
        "s3://bucket/x.pdf-3": completion(good),
        "nul\x00byte": completion(good),
        "x" * 400: completion(good),
        "long-1": completion({**good, "natural_text": "half a pair: \ud800"}),
        "long-2": completion({**good, "primary_language": "\udfff"}),
    }
    code, retry = collect(mix, tmp_path, pdfs, replies)
    assert code == 1
    assert set(retry) == set(replies)
    assert retry["b"].startswith("truncated") and retry["c"].startswith("refused")
    assert retry["d"].startswith("malformed") and "45" in retry["a.pdf-3"]
    assert "would leave the output folder" in retry["../../escape"]
    assert set(tree(tmp_path / "pairs")) == {"retry.jsonl"}
    assert not (tmp_path.parent / "escape.md").exists()


def test_a_retried_answer_is_taken_up_by_the_next_start(tmp_path, mix, pdfs):
    collect(mix, tmp_path, pdfs, {"b": completion(page_answer(), finish="length")})
    code, retry = collect(mix, tmp_path, pdfs, {"b": completion(page_answer())})
    assert (code, retry) == (0, {})
    assert (tmp_path / "pairs/b.md").exists()


def test_ids_of_olmocr_and_of_buildsilver_find_their_pages(tmp_path, mix, pdfs):
    replies = {"a-3": completion(page_answer()), f"{pdfs}/long.pdf-2": completion(page_answer())}
    code, retry = collect(mix, tmp_path, pdfs, replies, "--sources-anywhere")
    assert (code, retry) == (0, {})
    assert (tmp_path / "pairs/a.pdf-3.md").exists()
    [cut] = (tmp_path / "pairs").glob("*long*.pdf")
    assert 500 < len(cut.read_bytes()) < 3000


def test_odd_names_round_trip_through_the_index(tmp_path, mix, pdfs):
    mix("openai-build", pdfs, tmp_path / "build", "--side", 200)
    ids = [row["custom_id"] for row in sent(tmp_path / "build")]
    replies = {i: completion(page_answer(natural_text=i)) for i in ids}
    code, _ = collect(mix, tmp_path, pdfs, replies, "--index", tmp_path / "build/index")
    assert code == 0
    assert (tmp_path / "pairs/sub/ü x.md").exists()


def test_killed_collect_goes_on_to_the_same_pairs(tmp_path, mix, pdfs):
    replies = {i: completion(page_answer(natural_text=i)) for i in ("b", "c", "d")}
    collect(mix, tmp_path, pdfs, replies, "--workers", 1)
    for moment in (1, 2):
        command = ("openai-collect", tmp_path / "results", pdfs, tmp_path / f"k{moment}")
        assert killed_at(moment, "before", *command)
        assert mix(*command) == 0
        assert tree(tmp_path / f"k{moment}") == tree(tmp_path / "pairs")


def texts(folder):
    return {r["custom_id"]: r["body"]["messages"][0]["content"][0]["text"] for r in sent(folder)}


def test_a_prompt_with_anchor_text_shows_what_the_pdf_holds(tmp_path, mix):
    page = "{width} of {anchor_text}\nno [template]\n" + "\n".join(f"line {n}" for n in range(400))
    make_pdf(tmp_path / "in/a.pdf", [page], size=(300, 6000))
    make_pdf(tmp_path / "in/b.pdf", [""])
    command = ("openai-build", tmp_path / "in")
    few = ("--side", 100, "--workers", 1)
    assert mix(*command, tmp_path / "plain", *few) == 0
    assert "line 7" not in texts(tmp_path / "plain")["a"]
    more = (*few, "--prompt", "olmrl-silver-anchor-v1")
    assert mix(*command, tmp_path / "out", *more) == 0
    found = texts(tmp_path / "out")
    own = texts(tmp_path / "plain")
    assert all(found[name].startswith(own[name]) for name in "ab")
    head, _, anchor = found["a"].partition("Page dimensions: 300.0x6000.0\n")
    assert "5 pixels wide and 100 pixels high" in head and 3500 < len(anchor) < 4000
    assert "[20x5970]{width} of {anchor_text}\n" in anchor  # the outermost line always stays
    assert found["b"].endswith("Page dimensions: 300.0x400.0\n")
    assert mix(*command, tmp_path / "short", *more, "--anchor-chars", 300) == 0
    assert len(texts(tmp_path / "short")["a"]) < len(head) + 300
    (tmp_path / "own.txt").write_text("Read this: {anchor_text} at {width}")
    assert mix(*command, tmp_path / "file", *few, "--prompt", f"file:{tmp_path / 'own.txt'}") == 0
    assert texts(tmp_path / "file")["b"] == "Read this: Page dimensions: 300.0x400.0\n at 75"


def test_the_public_prompt_with_anchor_text_is_read_and_checked(tmp_path, mix, capsys, monkeypatch):
    make_pdf(tmp_path / "in/a.pdf", ["words"])
    words = ("openai-build", tmp_path / "in", tmp_path / "out", "--side", 50, "--workers", 1)
    (tmp_path / "p.txt").write_text("Transcribe {anchor_text}")
    for prompt, said in (
        (f"olmocr-silver-v1:{tmp_path / 'p.txt'}", "the public mix-0225 prompt has 05d0b34af176"),
        ("olmocr-silver-v1", "read from the olmocr package, which is not installed"),
        ("olmocr-silver-v2", "unknown; allowed: olmrl-silver-v1, olmrl-silver-anchor-v1"),
    ):
        assert mix(*words, "--prompt", prompt) == 2
        assert said in capsys.readouterr().err
    package = tmp_path / "package/olmocr/prompts"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "prompts.py").write_text(
        "def build_openai_silver_data_prompt(text):\n    return f'Transcribe {text}'\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "package")
    assert mix(*words, "--prompt", "olmocr-silver-v1") == 2
    assert "sha256 is" in capsys.readouterr().err
    assert mix(*words, "--prompt", "olmocr-silver-v3") == 2
    assert "has no prompt 'olmocr-silver-v3'" in capsys.readouterr().err
    monkeypatch.setattr(
        "olmrl.mix.prompts._PUBLIC",
        {"olmocr-silver-v1": prompts._PUBLIC["olmocr-silver-v1"]._replace(sha256=SHA)},
    )
    assert mix(*words, "--prompt", "olmocr-silver-v1") == 0
    assert texts(tmp_path / "out")["a"].startswith("Transcribe Page dimensions: 300.0x400.0\n[20x")


def test_anchor_text_needs_a_place_in_the_prompt(tmp_path, mix, pdfs, capsys):
    assert mix("openai-build", pdfs, tmp_path / "out", "--anchor-chars", 500) == 2
    error = capsys.readouterr().err
    assert "'olmrl-silver-v1' has no place {anchor_text}" in error and error.count("\n") == 1
