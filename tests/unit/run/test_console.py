"""What a run says at its end."""

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
