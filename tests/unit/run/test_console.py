"""What a run says until its first step, and at its end."""

import threading

from olmrl.run import console as module
from olmrl.run.console import Console
from olmrl.run.directory import RunDirectory
from olmrl.run.stop import StopRequest


def test_the_end_of_a_run_says_which_pages_were_left_out(tmp_path, capsys):
    directory = RunDirectory(str(tmp_path / "run"))
    directory.create("run: {}\n")
    for number, reason in enumerate(("is encrypted", "has no pages", "is encrypted")):
        directory.bad_page(f"{number}.pdf::1", f"{number}.pdf", reason)
    Console(directory, StopRequest(1.0)).summary(directory, tmp_path / "report.html")
    assert capsys.readouterr().out.splitlines() == [
        f"3 bad pages left out; all: {directory.path / 'bad_pages.jsonl'}",
        "  2 x is encrypted",
        "  1 x has no pages",
        f"model: {directory.path / 'model'}",
        f"report: {tmp_path / 'report.html'}",
    ]


def test_a_run_that_has_no_step_yet_says_so_again_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PLAIN_LINE_EVERY_S", 0.01)
    directory = RunDirectory(str(tmp_path / "run"))
    directory.create("run: {}\n")
    console, said, twice = Console(directory, StopRequest(1.0)), [], threading.Event()

    def say(line):
        said.append(line)
        if sum("waiting for the first step" in each for each in said) == 2:
            twice.set()

    monkeypatch.setattr(console, "say", say)
    show = console.step_line("SFT", 9, {"loss": ("loss/sft", ".2f")})
    assert twice.wait(60)
    (waiting,) = [each for each in threading.enumerate() if each.name.endswith("(_wait)")]
    show(1, {"loss/sft": 0.5})
    waiting.join(60)
    told = len(said)
    assert said[-1].startswith(("step    1/9  loss 0.50", "waiting"))
    assert not waiting.is_alive() and len(said) == told
    console.close()
