"""What launch/README.md tells people to type."""

import re
import shlex

import pytest
from ray.scripts.scripts import cli

from olmrl.config import GrpoConfig, load


@pytest.fixture(scope="module")
def readme(launch):
    return (launch / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def commands(readme):
    """Lines of the code blocks, continued lines joined, comments dropped."""
    lines = re.sub(r"\\\n\s*", "", readme).splitlines()
    blocks = [line.strip() for line in lines if line.startswith("    ")]
    return [part.strip() for line in blocks for part in re.split(r"\s{4,}|\s&&\s", line)]


def test_every_file_it_names_is_here(readme, launch):
    named = set(re.findall(r"\b((?:launch|configs)/[\w./]+\.(?:\w+))", readme))
    assert len(named) > 8
    assert [name for name in named if not (launch.parent / name).exists()] == []


def test_every_file_of_the_folder_is_explained(readme, launch):
    files = [path.name for path in launch.iterdir() if path.suffix and path.is_file()]
    assert [name for name in files if name not in readme and name != "README.md"] == []


def test_ray_has_every_command_and_option(commands):
    used = [shlex.split(c.split(" -- ")[0], comments=True) for c in commands if c[:4] == "ray "]
    assert len(used) > 8
    for words in used:
        command, rest = cli, words[1:]
        while hasattr(command, "commands"):
            assert rest[0] in command.commands, words
            command, rest = command.commands[rest[0]], rest[1:]
        known = {option for parameter in command.params for option in parameter.opts}
        options = {word for word in rest if word.startswith("--")}
        assert options <= known, words


def test_every_run_has_a_config_and_keys_that_exist(commands, launch):
    runs = [c for c in commands if "olmrl.grpo --config configs" in c]
    assert len(runs) >= 3
    for text in runs:
        words = shlex.split(text, comments=True)
        file = words[words.index("--config") + 1]
        overrides = [word for word in words[words.index(file) :] if "=" in word]
        load(GrpoConfig, launch.parent / file, overrides)
