"""Pages that cannot be used: listed once by the id that every file of a run uses, and bounded."""

import json

import pytest

from olmrl.data.encode import EncoderSpec
from olmrl.data.page import PageSource
from olmrl.data.render import BadPage
from olmrl.data.streams import PageWork
from olmrl.errors import RunStopped
from olmrl.run.bad_pages import BadPages
from olmrl.run.directory import RunDirectory

TRAIN = [PageSource(f"{n}.pdf::1", f"/train/{n}.pdf", 1) for n in range(4)]
HELD = [PageSource("0.pdf::1", "/held/0.pdf", 1)]


@pytest.fixture
def directory(tmp_path):
    made = RunDirectory(tmp_path / "run")
    made.create("")
    return made


def test_pages_are_listed_once_by_the_id_of_their_set(directory):
    train = BadPages(directory, TRAIN, 1.0)
    for number in (0, 2, 0):
        train.add(BadPage(f"/train/{number}.pdf", 1, "broken"))
    BadPages(directory, HELD, 1.0).add(BadPage("/held/0.pdf", 1, "gone"))
    rows = [(row["page_id"], row["path"]) for row in directory.bad_pages()]
    assert rows == [
        ("0.pdf::1", "/train/0.pdf"),
        ("2.pdf::1", "/train/2.pdf"),
        ("0.pdf::1", "/held/0.pdf"),
    ]


def test_a_resumed_run_counts_what_it_listed_and_no_page_of_another_set(directory):
    BadPages(directory, HELD, 1.0).add(BadPage("/held/0.pdf", 1, "broken"))
    BadPages(directory, TRAIN, 1.0).add(BadPage("/train/0.pdf", 1, "broken"))
    resumed = BadPages(directory, TRAIN, 0.25, "training pages")
    assert len(resumed) == 1
    resumed.add(BadPage("/train/0.pdf", 1, "broken"))
    sentence = (
        r"2 of 4 training pages cannot be used, more than data\.max_bad_fraction=0\.25 allows"
    )
    with pytest.raises(RunStopped, match=sentence):
        resumed.add(BadPage("/train/1.pdf", 1, "broken"))


def test_a_run_directory_whose_ids_hold_whole_paths_goes_on(directory):
    row = {"page_id": "/train/3.pdf::1", "path": "/train/3.pdf", "reason": "broken"}
    (directory.path / "bad_pages.jsonl").write_text(json.dumps(row) + "\n")
    resumed = BadPages(directory, TRAIN, 0.5)
    resumed.add(BadPage("/train/3.pdf", 1, "broken"))
    assert len(resumed) == 1 and directory.bad_pages() == [row]


def test_a_page_that_cost_a_reader_is_not_opened_again_by_a_resumed_run(directory, monkeypatch):
    bad = BadPages(directory, TRAIN, 1.0)
    bad.add(BadPage("/train/0.pdf", 1, "crashes the PDF reader (SIGSEGV)"))
    bad.add(BadPage("/train/1.pdf", 1, "took longer than 120 s"))
    bad.add(BadPage("/train/2.pdf", 1, "no such file"))  # it may be back

    def opened(source, side):
        raise BadPage(source.pdf_path, 1, "opened")

    monkeypatch.setattr("olmrl.data.streams.load_page", opened)
    resumed = BadPages(directory, TRAIN, 1.0)
    work = PageWork(tuple(TRAIN), 100, EncoderSpec("m"), resumed.not_again)
    notes = [work(0, k, k).note for k in range(3)]
    assert [note.reason for note in notes] == [
        "crashes the PDF reader (SIGSEGV)", "took longer than 120 s", "opened",
    ]  # fmt: skip
