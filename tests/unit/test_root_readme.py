"""What documents for users tell people to type, and where they send them."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from olmrl.config import ConfigError, GrpoConfig, SftConfig, load

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("docs/concepts/*.md"), *ROOT.glob("docs/guides/*.md")]
FILES = (
    *("README.md", "README.ko.md", "CONTRIBUTING.md", "docs/commands.md", "docs/index.md"),
    *("docs/korean.md", "docs/faq.md", "docs/comparison.md", "docs/learning.md"),
    *sorted(str(path.relative_to(ROOT)) for path in PAGES),
)
TEXTS = {name: (ROOT / name).read_text("utf-8") for name in FILES}
STANDS_FOR = {"N": "1", "I": "1"}
"""Numbers by their placeholder; other placeholders may stay, they are read as paths or names."""
SCHEMAS = {
    "grpo": (GrpoConfig, ["model.path=m", "data.train=d"]),
    "sft": (
        SftConfig,
        [
            *("model.path=m", "data.train=[{root: d}]", "data.evaluation=[{root: e}]"),
            "evaluation.generate={pages: 1}",
        ],
    ),
}


def code(text: str) -> list[str]:
    """Lines of shell blocks, fenced or indented, continued lines joined; spans in backticks."""
    text = re.sub(r"\\\n\s*", "", text)
    shell = "\n".join(re.findall(r"^ *```sh\n(.*?)```", text, flags=re.S | re.M))
    joined = re.sub(r"```.*?```", "", text, flags=re.S)
    blocks = [line.strip() for line in joined.splitlines() if line.startswith("    ")]
    blocks += [line.strip() for line in shell.splitlines()]
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", joined)]
    return [part.strip() for line in (*blocks, *spans) for part in re.split(r"\s&&\s", line)]


CODE = [line for text in TEXTS.values() for line in code(text)]


def arguments(line: str) -> tuple[str, list[str]] | None:
    """Command of olmrl and its arguments, where a line has one."""
    found = re.search(r"(?:^|\s)(?:python -m olmrl\.|olmrl )(\w+)(?=\s|$)(.*)", line)
    found = found or re.match(r"(bench|checkpoint|config|data|mix|report|synth) (.+)", line)
    if found is None or found[1] == "COMMAND":
        return None
    words = shlex.split(found[2].split(" > ")[0], comments=True)
    return found[1], [STANDS_FOR.get(word, word) for word in words]


COMMANDS = sorted({line for line in CODE if arguments(line)})


class Parsed(BaseException):
    """The arguments are good; ends the command before it does anything."""


@pytest.fixture
def only_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends a command once its own parser, and those of its verbs, are through."""
    depth = 0

    def end_after(method):
        def parse(self, args=None, namespace=None):
            nonlocal depth
            depth += 1
            try:
                parsed = method(self, args, namespace)
            finally:
                depth -= 1
            if depth:
                return parsed
            others = parsed[1] if isinstance(parsed, tuple) else []
            if any(word.startswith("-") for word in others):
                self.error(f"unrecognized arguments: {others}")
            raise Parsed

        return parse

    for name in ("parse_args", "parse_intermixed_args", "parse_known_args"):
        method = getattr(argparse.ArgumentParser, name)
        monkeypatch.setattr(argparse.ArgumentParser, name, end_after(method))


def test_there_are_commands_to_look_at():
    assert {arguments(line)[0] for line in COMMANDS} >= {"grpo", "sft", "bench", "synth", "mix"}


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_one_that_its_parser_takes(line, only_parse, monkeypatch):
    command, words = arguments(line)
    if words in ([], ["VERB"]):
        words = ["--help"]
    elif len(words) == 1 and re.fullmatch(r"[a-z-]+", words[0]):  # a verb that is only named
        words = [*words, "--help"]
    monkeypatch.setattr(sys, "argv", [command, *words])
    with pytest.raises((Parsed, SystemExit)) as ended:
        runpy.run_module(f"olmrl.{command}", run_name="__main__")
    assert ended.type is Parsed or ("--help" in words and ended.value.code in (0, None)), line


@pytest.mark.parametrize("line", [line for line in COMMANDS if "--config configs" in line])
def test_every_run_has_a_config_and_keys_that_exist(line):
    command, words = arguments(line)
    file = words[words.index("--config") + 1]
    overrides = [word for word in words if re.match(r"[\w.]+=", word)]
    load(SCHEMAS[command][0], ROOT / file, overrides)


SETTINGS = sorted(
    {line.split("|")[0] for line in CODE if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+=\S.*", line)}
)


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_it_names_exists(setting):
    problems = []
    for schema, needed in SCHEMAS.values():
        try:
            load(schema, None, [*needed, setting])
        except ConfigError as error:
            problems.append(str(error))
    assert len(problems) < len(SCHEMAS), problems


def test_every_file_it_names_is_here():
    folders = r"olmrl|configs|launch|tests|benchmarks|docs"
    named = {
        path.rstrip(".")
        for text in TEXTS.values()
        for path in re.findall(rf"\b((?:{folders})/[\w./*-]+)", text)
    }
    assert len(named) > 20
    real = sorted(path for path in named if "NAME" not in path)
    assert [path for path in real if not list(ROOT.glob(path))] == []


def test_modules_that_it_names_by_room_are_here():
    named = set(re.findall(r"`(\w+(?:/\w+)*\.py)`", TEXTS["README.md"]))
    assert [
        path
        for path in sorted(named)
        if not any((folder / path).is_file() for folder in (ROOT, ROOT / "olmrl"))
    ] == []


@pytest.mark.parametrize("file", [*FILES, "Makefile", ".ci/run", "mkdocs.yml"])
def test_launch_local_knows_every_word_that_it_is_called_with(file):
    text = (ROOT / file).read_text("utf-8")
    known = set(re.findall(r"^  (\w+)\)", (ROOT / "launch/local.sh").read_text("utf-8"), re.M))
    assert known >= {"check", "format", "run", "setup", "test"}
    assert set(re.findall(r"launch/local\.sh ([a-z]+)(?=[`\s])", text)) - {"builds"} <= known


@pytest.mark.parametrize("file", ["README.md", "README.ko.md"])
def test_the_number_of_attack_strategies_is_that_of_the_red_team(file):
    counted = re.findall(
        r"^\| \*\*honest\*\* \| (\d+) \|", (ROOT / "docs/rewards.md").read_text(), re.M
    )
    said = re.findall(r"(\d+) strategies|(\d+)가지 리워드 해킹 전략", TEXTS[file])
    assert ["".join(numbers) for numbers in said] == counted
