"""loc, nara and clean: from archives' files to clean page pairs, over real HTTP."""

import csv
import io
import json

import img2pdf
import pytest
from image_server import ImageServer, picture
from mix_support import killed_at, tree
from openai_server import OpenAIServer, completion
from PIL import Image

from olmrl.data.render import page_count, render_page
from olmrl.markup import front_matter
from olmrl.mix.verbs.loc import full_size
from olmrl.mix.verbs.nara import latest


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["Item", "Asset", "AssetStatus", "DownloadUrl", "Transcription"])
        writer.writerows(["item", *row] for row in rows)


def loc(folder, *more):
    return (
        "loc", "--input-dir", folder / "csv", "--output-dir", folder / "out",
        "--rate", 1000, "--retry-wait", 0.01, *more,
    )  # fmt: skip


def problems(out, verb):
    summary = json.loads((out / f".mix/{verb}/summary.json").read_text())
    return {row["key"]: row["reason"] for row in summary["problems"]}


def test_loc_pages_are_fetched_at_full_size_and_keep_their_bytes(tmp_path, mix):
    images = {f"/iiif/{n}/full/full/0/default.jpg": picture() for n in "abc"}
    faults = {
        "/iiif/a/full/full/0/default.jpg": ["short", 503],
        "/iiif/b/full/full/0/default.jpg": ["drop", 429],
    }
    with ImageServer(images, faults) as server:
        url = f"{server.url}/iiif/%s/full/pct:25/0/default.jpg"
        rows = [
            ("mss/1:001", "completed", url % "a", "Dear Sir,\r\nI am\n"),
            ("b" * 300, "completed", url % "b", 'two, "quoted"\nlines'),
            ("blank", "completed", url % "c", ""),
            ("open", "in progress", url % "c", "x"),
            ("gone", "completed", url % "nothing", "x"),
            ("mss/1:001", "completed", url % "c", "again"),
            ("local", "completed", "file:///etc/passwd", "x"),
            ("", "completed", url % "c", "x"),
        ]
        write_csv(tmp_path / "csv/letters.csv", rows)
        write_csv(tmp_path / "csv/other/letters.csv", rows[2:3])
        assert mix(*loc(tmp_path)) == 0
        assert server.asked["/iiif/a/full/full/0/default.jpg"] == 3
        before = dict(server.asked)
        assert mix(*loc(tmp_path)) == 0
        assert dict(server.asked) == before
    out = tmp_path / "out/letters"
    [first] = out.glob("mss_1_001-*.md")
    page = front_matter.parse(first.read_text())
    assert page.natural_text == "Dear Sir,\nI am" and page.primary_language is None
    assert (out / "blank.md").read_text().endswith("\n---")
    assert images["/iiif/a/full/full/0/default.jpg"] in first.with_suffix(".pdf").read_bytes()
    assert page_count(str(first.with_suffix(".pdf"))) == 1
    assert (tmp_path / "out/other/letters/blank.pdf").exists()
    reasons = problems(tmp_path / "out", "loc")
    assert (
        "HTTP 404" in reasons["letters/gone"] and "not an http address" in reasons["letters/local"]
    )
    assert sum("already occurs earlier in the file" in reason for reason in reasons.values()) == 1
    assert len(list(out.glob("*.md"))) == 3


def test_iiif_addresses_of_every_size_become_full_size():
    for part in ("pct:12.5", "800,", ",600", "!200,200"):
        assert full_size(f"https://x/i/full/{part}/0/default.jpg") == (
            "https://x/i/full/full/0/default.jpg"
        )
    assert full_size("https://x/photo.jpg") == "https://x/photo.jpg"


def test_loc_resumes_by_content_without_its_journal(tmp_path, mix):
    images = {"/a.jpg": picture(), "/b.jpg": picture()}
    with ImageServer(images) as server:
        rows = [(n, "completed", f"{server.url}/{n}.jpg", f"text {n}") for n in "ab"]
        write_csv(tmp_path / "csv/x.csv", rows)
        assert mix(*loc(tmp_path, "--raw", "--state", tmp_path / "s1")) == 0
        (tmp_path / "out/x/b.md").write_text("text of an older version")
        assert mix(*loc(tmp_path, "--raw", "--state", tmp_path / "s2")) == 0
        assert server.asked == {"/a.jpg": 1, "/b.jpg": 2}
    assert (tmp_path / "out/x/a.md").read_text() == "text a"


def test_killed_loc_goes_on_and_fetches_nothing_twice(tmp_path, mix):
    images = {f"/{n}.jpg": picture() for n in "abcd"}
    with ImageServer(images) as server:
        rows = [(n, "completed", f"{server.url}/{n}.jpg", f"text {n}") for n in "abcd"]
        for name in ("whole", "killed"):
            write_csv(tmp_path / name / "csv/x.csv", rows)
        assert mix(*loc(tmp_path / "whole")) == 0
        server.asked.clear()
        assert killed_at(4, "before", *loc(tmp_path / "killed", "--workers", 1))
        assert mix(*loc(tmp_path / "killed", "--workers", 1)) == 0
        assert sum(server.asked.values()) <= 5  # at most the page in hand
    assert tree(tmp_path / "killed/out") == tree(tmp_path / "whole/out")


def test_downloads_keep_to_the_rate(tmp_path, mix):
    with ImageServer({f"/{n}.jpg": picture() for n in range(6)}) as server:
        rows = [(str(n), "completed", f"{server.url}/{n}.jpg", "t") for n in range(6)]
        write_csv(tmp_path / "csv/x.csv", rows)
        assert mix(*loc(tmp_path, "--rate", 20)) == 0
        assert max(server.times) - min(server.times) >= 5 / 20 - 0.01


def record(url, texts, status="Unrestricted", kind="Image (JPG)", tags=(), identity=7):
    return {
        "record": {
            "naId": 1,
            "accessRestriction": {"status": status},
            "digitalObjects": [{"objectId": identity, "objectType": kind, "objectUrl": url}],
        },
        "record_tag": [{"aiMachineGenerated": tag} for tag in tags],
        "record_transcription": [
            {
                "contributionType": "transcription",
                "contribution": text,
                "target": {"naId": 1, "objectId": str(identity), "pageNum": 2},
            }
            for text in texts
        ],
    }


def test_nara_keeps_open_human_pages_and_the_latest_transcript(tmp_path, mix):
    images = {
        "/a.jpg": picture(),
        "/b.tif": picture("TIFF", mode="L"),
        "/two.tif": picture("TIFF", frames=2),
        "/c.jp2": picture("JPEG2000"),
        "/bad.jpg": b"<html>not an image</html>",
    }
    with ImageServer(images) as server:
        rows = [
            record(f"{server.url}/a.jpg", ["old", "new", " "], identity=1),
            record(f"{server.url}/b.tif", ["tiff"], kind="TIFF", identity=2),
            record(f"{server.url}/two.tif", ["two"], kind="TIFF", identity=3),
            record(f"{server.url}/c.jp2", ["jp2"], kind="JP2", identity=4),
            record(f"{server.url}/bad.jpg", ["bad"], identity=5),
            record(f"{server.url}/a.jpg", ["x"], status="Restricted - Fully", identity=6),
            record(f"{server.url}/a.jpg", ["x"], tags=(True,), identity=8),
            record(f"{server.url}/a.mp3", ["x"], kind="Sound File", identity=9),
            {"record": None},
        ]
        folder = tmp_path / "catalog/rg_24"
        folder.mkdir(parents=True)
        lines = [json.dumps(row) for row in rows]
        (folder / "part-1.jsonl").write_text("\n".join([*lines, "{broken"]) + "\n")
        command = (
            "nara", "--input-dir", tmp_path / "catalog", "--output-dir", tmp_path / "out",
            "--rate", 1000, "--retry-wait", 0.01, "--language", "en",
        )  # fmt: skip
        assert mix(*command) == 0
    out = tmp_path / "out/rg_24/part-1"
    assert {p.stem for p in out.glob("*.md")} == {"1-1-page-2", "1-2-page-2", "1-4-page-2"}
    page = front_matter.parse((out / "1-1-page-2.md").read_text())
    assert (page.natural_text, page.primary_language) == ("new", "en")
    for name in ("1-2-page-2", "1-4-page-2"):
        assert render_page(str(out / f"{name}.pdf"), 1, 80).shape == (80, 60, 3)
    reasons = problems(tmp_path / "out", "nara")
    assert "2 frames" in reasons["rg_24/part-1/1-3-page-2"]
    assert "not a readable image" in reasons["rg_24/part-1/1-5-page-2"]
    assert "Restricted - Fully" in reasons["rg_24/part-1 line 6"]
    assert "not valid JSON" in reasons["rg_24/part-1 line 10"]


def test_killed_nara_goes_on_and_fetches_nothing_twice(tmp_path, mix):
    def nara(out):
        return (
            "nara", "--input-dir", tmp_path / "catalog", "--output-dir", tmp_path / out,
            "--rate", 1000, "--workers", 1,
        )  # fmt: skip

    with ImageServer({f"/{n}.jpg": picture() for n in range(4)}) as server:
        rows = [record(f"{server.url}/{n}.jpg", [f"text {n}"], identity=n + 1) for n in range(4)]
        (tmp_path / "catalog").mkdir()
        (tmp_path / "catalog/part.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
        assert mix(*nara("whole")) == 0
        server.asked.clear()
        assert killed_at(4, "before", *nara("killed"))
        assert mix(*nara("killed")) == 0
        assert sum(server.asked.values()) <= 5  # at most the page in hand
    assert len(tree(tmp_path / "whole")) >= 8
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


def test_the_latest_contribution_is_by_date_where_dates_are_given():
    def entry(text, date):
        return {
            "contributionType": "transcription", "contribution": text, "createdAt": date,
            "target": {"objectId": 1},
        }  # fmt: skip

    newest_first = [entry("new", "2024-05-01"), entry("old", "2020-01-01")]
    assert latest(newest_first, "1")["contribution"] == "new"
    assert latest(newest_first, "2") is None


def test_a_large_tiff_becomes_a_jpeg_of_bounded_size():
    image = Image.effect_noise((3000, 3000), 80).convert("RGB")
    out = io.BytesIO()
    image.save(out, "TIFF")
    from olmrl.mix.pdf import image_to_pdf

    pdf = image_to_pdf("x.tif", out.getvalue())
    assert b"/DCTDecode" in pdf and len(pdf) < len(out.getvalue()) / 3


# clean


def raw_pair(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text)
    (folder / f"{name}.pdf").write_bytes(img2pdf.convert(picture()))


def clean_answer(text="Clean text", **changes):
    return {
        "is_page_all_blank": not text, "primary_language": "en", "is_rotation_valid": True,
        "rotation_correction": 0, "is_table": False, "is_diagram": False,
        "corrections_made": ["joined a word"], "cleaned_text": text, "confidence_score": 0.9,
        **changes,
    }  # fmt: skip


def clean(server, folder, *more):
    return (
        "clean", folder / "in", folder / "out", "--base-url", server.url, "--side", 100,
        "--workers", 2, *more,
    )  # fmt: skip


def test_clean_writes_pairs_with_confidence_and_pays_each_page_once(tmp_path, mix, api_key):
    raw_pair(tmp_path / "in", "raw", "tran- scribed [stamp]")
    head = "---\nprimary_language: null\nis_rotation_valid: True\nrotation_correction: 0\nis_table: False\nis_diagram: False\n---"  # noqa: E501
    raw_pair(tmp_path / "in", "sub", f"{head}\nwith head")
    raw_pair(tmp_path / "in", "empty", "")
    seen = []

    def answer(key, body):
        text = body["messages"][0]["content"][0]["text"].split("Transcription:\n")[1]
        seen.append(text)
        value = clean_answer(text.upper(), primary_language="en" if text else None)
        return completion(value, model="gpt-4o-2024-08-06")

    with OpenAIServer(answer) as server:
        assert mix(*clean(server, tmp_path)) == 0
        assert mix(*clean(server, tmp_path)) == 0
        assert sum(server.chats.values()) == 3
    assert sorted(seen) == ["", "tran- scribed [stamp]", "with head"]
    out = tmp_path / "out"
    assert front_matter.parse((out / "sub.md").read_text()).natural_text == "WITH HEAD"
    assert (out / "empty.md").read_text().endswith("\n---")
    assert (out / "raw.md.orig").read_text() == "tran- scribed [stamp]"
    assert (out / "raw.pdf").read_bytes() == (tmp_path / "in/raw.pdf").read_bytes()
    report = json.loads((out / "raw.json").read_text())
    assert report["confidence_score"] == 0.9 and report["corrections_made"] == ["joined a word"]
    facts = json.loads((out / ".mix/clean/summary.json").read_text())["facts"]
    assert facts["cost_usd"] == pytest.approx(3 * (1000 * 2.5 + 100 * 10) / 1e6)


def test_unusable_cleaning_answers_fail_their_page_and_their_cost_stays_counted(
    tmp_path, mix, api_key
):
    raw_pair(tmp_path / "in", "page", "text")
    replies = [
        completion(clean_answer(confidence_score=7)),
        completion(clean_answer(), finish="length"),
        completion(clean_answer("", is_page_all_blank=False)),
        completion(None, refusal="no"),
        (500, {}, b"down"),
        completion(clean_answer(rotation_correction=90, is_rotation_valid=False)),
    ]
    with OpenAIServer(lambda key, body: replies.pop(0)) as server:
        for expected in (
            "confidence_score is 7",
            "truncated",
            "contradicts",
            "refused",
            "HTTP 500",
        ):
            assert mix(*clean(server, tmp_path, "--tries", 1)) == 1
            assert expected in problems(tmp_path / "out", "clean")["page"]
            assert not (tmp_path / "out/page.md").exists()
        assert mix(*clean(server, tmp_path, "--tries", 1)) == 0
    assert front_matter.parse((tmp_path / "out/page.md").read_text()).rotation_correction == 270
    facts = json.loads((tmp_path / "out/.mix/clean/summary.json").read_text())["facts"]
    assert facts["prompt_tokens"] == 5000  # every answer is paid, the good one and the four bad


def test_clean_stops_asking_when_the_money_is_spent(tmp_path, mix, api_key):
    for name in "abc":
        raw_pair(tmp_path / "in", name, name)
    with OpenAIServer(lambda key, body: completion(clean_answer())) as server:
        price = ("--price", "1000,0", "--max-usd", 1.5, "--workers", 1)
        assert mix(*clean(server, tmp_path, *price)) == 1
        assert 2 <= sum(server.chats.values()) <= 3
        assert mix(*clean(server, tmp_path, "--price", "1000,0", "--max-usd", 99)) == 0
        assert sum(server.chats.values()) == 3


def test_killed_clean_goes_on_to_the_same_pairs(tmp_path, mix, api_key):
    def answer(key, body):
        return completion(clean_answer(body["messages"][0]["content"][0]["text"][-1]))

    for name in "abc":
        raw_pair(tmp_path / "whole/in", name, name)
        raw_pair(tmp_path / "killed/in", name, name)
        (tmp_path / f"killed/in/{name}.pdf").write_bytes(
            (tmp_path / f"whole/in/{name}.pdf").read_bytes()
        )
    with OpenAIServer(answer) as server:
        assert mix(*clean(server, tmp_path / "whole")) == 0
        server.chats.clear()
        for moment in (1, 4):
            assert killed_at(moment, "before", *clean(server, tmp_path / "killed", "--workers", 1))
        assert mix(*clean(server, tmp_path / "killed")) == 0
        assert sum(server.chats.values()) <= 5
    assert tree(tmp_path / "killed/out") == tree(tmp_path / "whole/out")


def test_a_wrong_key_stops_clean_at_once(tmp_path, mix, monkeypatch, capsys):
    raw_pair(tmp_path / "in", "a", "a")
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    with OpenAIServer(lambda key, body: completion(clean_answer())) as server:
        assert mix(*clean(server, tmp_path)) == 2
    assert "HTTP 401" in capsys.readouterr().err
