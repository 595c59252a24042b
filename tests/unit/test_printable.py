"""What others wrote does nothing to a terminal."""

import pytest

from olmrl.door import complain
from olmrl.printable import on_one_line, printable
from olmrl.progress import Progress

HOSTILE = "a\x1b]0;owned\x07\x9b2J\u202egnp.exe\rb"
SHOWN = "a\\x1b]0;owned\\x07\\x9b2J\\u202egnp.exe\\rb"


def test_controls_and_directions_are_shown_and_not_obeyed():
    assert printable(HOSTILE) == SHOWN


def test_half_characters_can_be_printed():
    assert printable("by\udcfftes") == "by\\udcfftes"


@pytest.mark.parametrize("text", ["plain", "한국어 العربية é\u0301 🙂", "a\tb\n  - c", "<b>[/x]{}"])
def test_usual_text_is_itself(text):
    assert printable(text) == text


def test_a_name_on_one_line_stays_on_it():
    assert on_one_line("a\nb\x1bc") == "a\\nb\\x1bc"


def test_errors_and_progress_show_hostile_names_as_they_are(capsys):
    complain("olmrl read", ValueError(f"{HOSTILE}: no such file\n  - second"), 2)
    Progress("mix").say(f"[red]{HOSTILE}\nolmrl: all is well")
    shown = capsys.readouterr().err
    assert shown == (
        f"olmrl read: {SHOWN}: no such file\n  - second\nmix: [red]{SHOWN}\\nolmrl: all is well\n"
    )
