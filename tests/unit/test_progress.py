"""Progress shows itself once work takes longer than a moment, and not before."""

import io

import pytest
from rich.console import Console

from olmrl import progress
from olmrl.progress import Progress, in_words, track, waiting


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when it is told to."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def test_nothing_is_said_of_quick_work(clock, capsys):
    for _ in track(range(4), "pages", 4):
        clock(0.4)
    assert capsys.readouterr().err == ""


def test_without_a_terminal_a_line_comes_every_ten_seconds(clock, capsys):
    for _ in track(range(60), "pages", 60):
        clock(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [
        "pages: 10 of 60  [10 s]", "pages: 20 of 60  [20 s]", "pages: 30 of 60  [30 s]",
    ]  # fmt: skip
    assert len(lines) == 5


def test_slow_items_give_a_line_each_and_no_flood(clock, capsys):
    for _ in track(range(5), "pages"):
        clock(35)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"pages: {n}  [{35 * n} s]" for n in range(1, 5)]


def test_at_a_terminal_there_is_a_bar(clock, monkeypatch):
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80)
    monkeypatch.setattr(progress, "Console", lambda stderr: console)
    with Progress("pages", 10) as shown:
        shown.update(1)
        assert out.getvalue() == ""
        clock(3)
        shown.update(5)
        shown.say("[half] of a/very/long/path")
    written = out.getvalue()
    assert "5 of 10" in written and "pages: [half] of a/very/long/path" in written


def test_what_cannot_be_counted_says_that_it_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    monkeypatch.setattr(progress, "_TICK_S", 0.01)
    done = progress.threading.Event()
    monkeypatch.setattr(Progress, "say", lambda self, text: (print(self.title, text), done.set()))
    with waiting("loading"):
        assert done.wait(10)
    assert capsys.readouterr().out.startswith("loading working")


def test_an_error_inside_passes_through():
    with pytest.raises(ValueError, match="no such page"), waiting("loading"):
        raise ValueError("no such page")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "0 s"), (40.4, "40 s"), (119, "119 s"), (120, "2 minutes"), (5400, "90 minutes"),
     (7200, "2 hours"), (90000, "25 hours"), (172800, "2 days"), (1.2e8, "1,389 days")],
)  # fmt: skip
def test_times_are_said_in_the_largest_unit_of_which_there_are_two(seconds, words):
    assert in_words(seconds) == words
