"""The rooms of `olmrl.synth`: each imports only those above it in the list of its docstring."""

import ast
import re
from pathlib import Path

import pytest

import olmrl.synth

ROOT = Path(olmrl.synth.__file__).parent
ROOMS = re.findall(r"^    (\w+)  ", olmrl.synth.__doc__, re.MULTILINE)


def imported(path):
    """Rooms of `olmrl.synth` that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("olmrl.synth."):
                yield name.split(".")[2]


def test_every_room_is_in_the_list():
    assert sorted(ROOMS) == sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_above_it(room):
    allowed = ROOMS[: ROOMS.index(room) + 1]
    found = {
        (path.name, name)
        for path in (ROOT / room).glob("*.py")
        for name in imported(path)
        if name not in allowed
    }
    assert not found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_its_purpose_in_one_sentence(room):
    said = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text("utf-8")))
    assert said.endswith(".")
    assert len(said.splitlines()) == 1
