"""What `bench run` writes before it scores: ladder, turned pages, files of an earlier call."""

import json
import shutil

import numpy as np
import pytest
from reading_server import ReadingServer, whole

from olmrl.bench.__main__ import main
from olmrl.bench.engine_commands import (
    Transcribed,
    candidate_name,
    missing_pages,
    target_path,
    write_outcomes,
)
from olmrl.data.encode import Encoder, EncoderSpec
from olmrl.data.page import load_page, scan_bench
from olmrl.data.render import BadPage
from olmrl.read.backend import LADDER, HowToRead, Item, Usage, read_items
from olmrl.types import Completion, PolicyVersion, VersionSpan

HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: {valid}\nrotation_correction: {turn}\n"
    "is_table: False\nis_diagram: False\n---\n"
)
UPRIGHT = HEAD.format(valid=True, turn=0)
TURNED = HEAD.format(valid=False, turn=90)


class ToyBackend:
    """Answers each request by the next text of a script, and remembers what was asked."""

    at_once = 8

    def __init__(self, encoder, *answers):
        self.generator = self
        self.encoder = encoder
        self.answers = list(answers)
        self.asked = []
        self._done = []

    def pages(self, items):
        for name, source in items:
            try:
                yield name, self.encoder.encode_page(load_page(source, 168))
            except BadPage as bad:
                yield name, bad

    def turn(self, page, degrees):
        return self.encoder.turned(page, degrees)

    def usage(self, answer):
        return Usage(3, len(answer.token_ids))

    def submit(self, group_id, page, sampling, seeds):
        text, reason = self.answers.pop(0)
        ids = np.arange(3, dtype=np.int32)
        self.asked.append((page, sampling, seeds))
        self._done.append(
            Completion(
                group_id, 0, ids, np.zeros(3, np.float32),
                (VersionSpan(PolicyVersion(0, 0), 0, 3),), reason, text, ids,
            )
        )  # fmt: skip

    def poll(self, timeout_s):
        done, self._done = self._done, []
        return done


@pytest.fixture
def encoder(tiny_model):
    return Encoder(EncoderSpec(str(tiny_model)))


@pytest.fixture
def transcribe(encoder, tiny_pages, tmp_path):
    """Read the first held-out page; gives the backend, what happened, and the text."""

    def run(how, *answers):
        sources = scan_bench(str(tiny_pages / "heldout"))[:1]
        backend, done = ToyBackend(encoder, *answers), Transcribed()
        wanted = missing_pages(sources, str(tmp_path), 1)
        items = [Item(name, source) for name, (source, _) in wanted.items()]
        write_outcomes(read_items(backend, items, how), wanted, done)
        return backend, done, open(target_path(str(tmp_path), sources[0], 1)).read()

    return run


def test_an_answer_loses_its_front_matter(transcribe):
    _, done, text = transcribe(HowToRead(), (UPRIGHT + "moon", "stop"))
    assert text == "moon"
    assert (done.written, done.invalid) == (1, [])


def test_attempts_climb_the_ladder_until_one_is_whole(transcribe):
    backend, done, text = transcribe(
        HowToRead(temperatures=LADDER),
        (UPRIGHT + "cut", "length"), ("no front matter", "stop"), (UPRIGHT + "whole", "stop"),
    )  # fmt: skip
    assert text == "whole"
    assert [s.temperature for _, s, _ in backend.asked] == [0.1, 0.1, 0.2]
    assert len({seeds for _, _, seeds in backend.asked}) == 3
    assert done.invalid == []


def test_a_page_that_is_never_whole_is_named(transcribe):
    how = HowToRead(temperatures=(0.1, 0.5))
    _, done, text = transcribe(how, ("one", "length"), ("two", "length"))
    assert text == "two"
    assert len(done.invalid) == 1


def test_a_turned_page_is_turned_counter_clockwise_and_read_again(transcribe, encoder):
    backend, _, text = transcribe(
        HowToRead(temperatures=LADDER, correct_rotation=True),
        (TURNED + "sideways", "stop"), (TURNED + "still", "stop"), (UPRIGHT + "up", "stop"),
    )  # fmt: skip
    first, second, third = (encoder.picture(page) for page, _, _ in backend.asked)
    assert text == "up"
    assert np.array_equal(second, np.rot90(first))
    assert np.array_equal(third, np.rot90(first, 2))


def test_the_last_valid_answer_counts_when_rotation_never_settles(transcribe):
    how = HowToRead(temperatures=(0.1, 0.1), correct_rotation=True)
    _, done, text = transcribe(how, (TURNED + "first", "stop"), ("broken", "stop"))
    assert (text, done.invalid) == ("first", [])


def test_files_of_an_earlier_call_are_kept(transcribe):
    transcribe(HowToRead(), (UPRIGHT + "old", "stop"))
    backend, done, text = transcribe(HowToRead(), ("never asked", "stop"))
    assert (text, done.written, backend.asked) == ("old", 0, [])


def test_a_page_that_cannot_be_drawn_is_listed(encoder, tiny_pages, tmp_path):
    source = scan_bench(str(tiny_pages / "heldout"))[0]
    wanted = missing_pages([source], str(tmp_path), 2)
    done = Transcribed()
    bad = BadPage(source.pdf_path, 1, "it is gone")
    write_outcomes([(name, bad) for name in wanted], wanted, done)
    assert done.failed == [(source.page_id, str(bad))] * 2
    assert not list(tmp_path.rglob("*.md"))


def test_the_whole_command_reads_through_a_server_and_scores(tiny_pages, tmp_path, capsys):
    folder = tmp_path / "bench"
    shutil.copytree(tiny_pages / "heldout", folder)
    pages = len(scan_bench(str(folder)))
    with ReadingServer(lambda size, attempt: whole("a few words")) as server:
        words = ["run", str(folder), "--model", "reader", "--base-url", server.url]
        assert main([*words, "--longest-side", "100"]) == 0
        assert len(server.asked) == pages
        assert {body["temperature"] for _, body, _ in server.asked} == {0.0}
        assert main(words) == 0 and len(server.asked) == pages
    said = capsys.readouterr()
    assert f"{pages} pages transcribed, 0 already there" in said.err
    assert f"0 pages transcribed, {pages} already there" in said.err
    assert "mean of categories" in said.out
    texts = {path.read_text() for path in (folder / "reader").rglob("*.md")}
    assert texts == {"a few words"}


@pytest.fixture
def small(tmp_path):
    """A bench folder of one PDF of two pages, of which only the second has a test."""
    import pypdfium2

    (tmp_path / "pdfs").mkdir()
    document = pypdfium2.PdfDocument.new()
    for _ in range(2):
        document.new_page(100, 140)
    document.save(str(tmp_path / "pdfs" / "a.pdf"))
    row = {"type": "absent", "pdf": "a.pdf", "page": 2, "id": "1", "text": "footer"}
    (tmp_path / "absent.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path


def test_a_page_with_an_added_baseline_test_is_read_too(small, capsys):
    with ReadingServer(lambda size, attempt: whole("words")) as server:
        words = ["run", str(small), "--base-url", server.url, "--longest-side", "60"]
        assert main([*words, "--model", "org/both"]) == 0
        assert {p.name for p in (small / "both").glob("*.md")} == {
            "a_pg1_repeat1.md", "a_pg2_repeat1.md",
        }  # fmt: skip
        assert main([*words, "--model", "one", "--skip-baseline", "--force"]) == 0
        assert {p.name for p in (small / "one").glob("*.md")} == {"a_pg2_repeat1.md"}
    out = capsys.readouterr().out
    assert "mean of categories" in out and "FAILED" not in out


def test_pages_of_one_candidate_are_read_in_one_way(small, capsys):
    with ReadingServer(lambda size, attempt: whole("words")) as server:
        words = ["run", str(small), "--base-url", server.url, "--model", "m"]
        assert main([*words, "--longest-side", "60"]) == 0
        (small / "m" / "a_pg1_repeat1.md").unlink()
        assert main([*words, "--longest-side", "80"]) == 2
        assert "read with longest_side 60, but now it is 80" in capsys.readouterr().err
        asked = len(server.asked)
        assert main([*words, "--longest-side", "60"]) == 0
        assert len(server.asked) == asked + 1


def test_a_server_that_is_down_is_said_in_a_sentence(small, capsys):
    words = ["run", str(small), "--base-url", "http://127.0.0.1:9/v1", "--model", "m"]
    assert main([*words, "--tries", "1"]) == 2
    (line,) = [s for s in capsys.readouterr().err.splitlines() if "bench run: " in s]
    assert "--base-url" in line and "the same call goes on from here" in line
    assert not list((small / "m").glob("*.md"))


@pytest.mark.parametrize("name", ["pdfs", "claude_original", ".."])
def test_a_candidate_is_no_folder_of_the_bench(small, capsys, name):
    words = ["run", str(small), "--base-url", "http://127.0.0.1:9/v1", "--model", "m"]
    assert main([*words, "--candidate", name]) == 2
    assert f"--candidate {name!r}: a folder of the bench itself" in capsys.readouterr().err
    assert not list(small.rglob("*.md"))


def test_a_candidate_is_named_after_its_model(tmp_path, monkeypatch):
    assert candidate_name(None, "org/model-7B") == "model-7B"
    assert candidate_name("mine", "org/model-7B") == "mine"
    monkeypatch.chdir(tmp_path)
    assert candidate_name(None, ".") == tmp_path.name


@pytest.mark.parametrize("name", ["../a", "/a", "a/b", ".a"])
def test_a_candidate_lies_in_the_bench_folder(name):
    with pytest.raises(ValueError, match="must be the name of a folder in the bench folder"):
        candidate_name(name, "m")
