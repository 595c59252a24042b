"""Reference pages of the documentation, made from the product itself.

A page holds the line `<!-- generated: WHAT -->`; everything from there to `<!-- end -->` is
replaced when the site is built. What stands between them is for readers of the plain file. Each
function gives markdown and changes nothing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from unittest import mock

from olmrl.__main__ import COMMANDS
from olmrl.config.explain import SCHEMAS, Key, allowed_text, keys, type_text, used_by, value_text
from olmrl.metric_catalogue import CATALOGUE
from olmrl.mix.__main__ import VERBS

ROOT = Path(__file__).parents[2]
_NO_BOUND = re.compile(r"(?: and)? [<>]= -?1000000000\b")
"""Bounds that only keep nonsense out."""
REGION = re.compile(r"<!-- generated: (\S+)(?: (\S+))? -->.*?<!-- end -->", re.DOTALL)


def filled(markdown: str) -> str:
    """A page with its generated parts.

    Raises:
        ValueError: a page asks for something that is not made here.
    """

    def part(found: re.Match[str]) -> str:
        what, argument = found[1], found[2]
        if what not in MADE:
            raise ValueError(f"generated: {what}: allowed are {', '.join(MADE)}")
        return MADE[what](*[argument] if argument else [])

    return REGION.sub(part, markdown)


def spaced(markdown: str) -> str:
    """A page with an empty line ahead of every list, outside of code.

    GitHub begins a list right below a line of text; Python-Markdown wants an empty line between.
    """
    lines: list[str] = []
    fenced = False
    for line in markdown.split("\n"):
        item = re.match(r"(?:[-*+]|\d+\.) ", line)
        before = lines[-1] if lines else ""
        if item and not fenced and re.match(r"(?![-*+] |\d+\. |[|#<])\S", before):
            lines.append("")
        fenced ^= line.startswith("```")
        lines.append(line)
    return "\n".join(lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table whose first column holds long names; line ends in cells become spaces."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[" ".join(cell.split()) for cell in row] for row in lines]
    body = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    return f'<div class="names" markdown>\n\n{body}\n\n</div>\n'


# -- configuration


def config_keys() -> str:
    """Every key of a run's configuration, a table for each section."""
    found: dict[str, dict[tuple[str, str, str], list[str]]] = {}
    for command, schema in SCHEMAS.items():
        known = list(keys(schema))
        for key in known:
            if key.inner is None or "anyOf" in key.schema:
                rows = found.setdefault(key.name.partition(".")[0].rstrip("[]"), {})
                rows.setdefault(_key_row(key, known), []).append(command)
    parts = []
    for section, rows in sorted(found.items()):
        parts.append(f"## {section}\n")
        lines = [
            (name if len(commands) == len(SCHEMAS) else f"{name}<br>only {commands[0]}", *rest)
            for (name, *rest), commands in rows.items()
        ]
        parts.append(table(("key", "value", "meaning"), lines))
    return "\n".join(parts)


def _key_row(key: Key, known: list[Key]) -> tuple[str, str, str]:
    allowed = allowed_text(key.schema)
    default = "must be given" if key.required else f"`{value_text(key.schema.get('default'))}`"
    kind = _NO_BOUND.sub("", type_text(key.schema))
    value = [kind, *([f"one of {allowed}"] if allowed else [])]
    readers = ", ".join(f"`{path}`" for path in used_by(key, known))
    meaning = _plain(key.description) + (f" Read by {readers}." if readers else "")
    return f"`{key.name}`", f"{_plain('; '.join(value))}<br>default: {default}", meaning


def _plain(text: str) -> str:
    """Text that markdown shows as it is, but for what stands in backticks."""
    spans = re.split(r"(`[^`]*`)", text)
    return "".join(
        span if number % 2 else re.sub(r"[*_<>\[\]|&]", lambda c: f"&#{ord(c[0])};", span)
        for number, span in enumerate(spans)
    )


# -- commands


class _Parsed(BaseException):
    """Carries a command's parser out of its `main`."""


def parser_of(command: str, *words: str) -> argparse.ArgumentParser:
    """The parser that a command reads its arguments with."""

    def carry(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        raise _Parsed(self)

    names = ("parse_args", "parse_intermixed_args", "parse_known_args")
    caught = mock.patch.multiple(argparse.ArgumentParser, **dict.fromkeys(names, carry))
    door = importlib.import_module(f"olmrl.{command}.__main__")
    try:
        with caught:
            door.main(list(words), prog=f"olmrl {command}")
    except _Parsed as found:
        parser: argparse.ArgumentParser = found.args[0]
        return parser
    raise ValueError(f"olmrl {command}: no argument parser")


def parsers() -> Iterator[tuple[str, str, list[argparse.ArgumentParser]]]:
    """Every command with its line and its parser, or those of its verbs."""
    for command, line in COMMANDS.items():
        if command == "mix":
            yield command, line, [parser_of("mix", verb) for verb in VERBS]
        else:
            yield command, line, list(_leaves(parser_of(command)))


def _leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    verbs = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not verbs:
        yield parser
    for action in verbs:
        for choice in action.choices.values():
            yield from _leaves(choice)


def commands() -> str:
    """Every command, and every argument that it takes."""
    parts = []
    for command, line, found in parsers():
        parts.append(f"## olmrl {command}\n\n{line[0].upper()}{line[1:]}.\n")
        for parser in found:
            if len(found) > 1:
                parts.append(f"### {parser.prog}\n\n{_first_sentence(parser, command)}\n")
            rows = [(_spelling(a), _meaning(a, parser)) for a in parser._actions if _shown(a)]
            if rows:
                parts.append(table(("argument", "meaning"), rows))
    return "\n".join(parts)


def _first_sentence(parser: argparse.ArgumentParser, command: str) -> str:
    verb = parser.prog.split()[-1]
    if command == "mix":
        text = VERBS[verb]
    else:
        holder = parser_of(command)
        helps = {
            choice.dest: choice.help or ""
            for action in holder._actions
            if isinstance(action, argparse._SubParsersAction)
            for choice in action._choices_actions
        }
        text = helps.get(verb, "")
    return _plain(text[:1].upper() + text[1:] + "." if text else "")


def _shown(action: argparse.Action) -> bool:
    return action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)


def _spelling(action: argparse.Action) -> str:
    value = action.metavar or (action.dest if action.nargs != 0 else "")
    if action.choices is not None:
        value = " or ".join(map(str, action.choices))
    elif action.option_strings and action.metavar is None:
        value = str(value).upper()
    value = " ".join(value) if isinstance(value, tuple) else str(value)
    if not action.option_strings:
        return f"`{value}`"
    plain = action.nargs == 0
    return f"`{', '.join(action.option_strings)}`" + ("" if plain else f" `{value}`")


def _meaning(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    text = (action.help or "") % {**vars(action), "prog": parser.prog}
    default = action.default
    plain = default is None or default is False or default == argparse.SUPPRESS or default == []
    if plain or "default" in text or action.nargs == 0:
        return _plain(text) + (" (required)" if action.required and action.option_strings else "")
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    if isinstance(default, Path) or str(shown) in ("", str(ROOT)) or action.dest == "workers":
        return _plain(text)
    return f"{_plain(text)} (default: `{shown}`)".strip()


# -- metrics, files, notebooks


def metrics() -> str:
    """The catalogue of metrics, a table for each question."""
    parts = []
    for question, entries in CATALOGUE.items():
        rows = [
            (
                f"`{m.name}`<br>{_plain(m.unit)}" + ("" if m.runs == "both" else f"; {m.runs}"),
                _plain(m.meaning),
                _plain(m.healthy),
            )
            for m in entries
        ]
        parts.append(f"## {question}\n\n" + table(("metric, unit, run", "meaning", "expect"), rows))
    return "\n".join(parts)


def included(path: str) -> str:
    """A file of the repository for a page of guides/, without its title: the page has one."""
    text = re.sub(r"\A# .*\n", "", (ROOT / path).read_text("utf-8"))

    def link(found: re.Match[str]) -> str:
        target = os.path.relpath((ROOT / path).parent / found[1], ROOT / "docs" / "guides")
        return f"]({target}"

    return re.sub(r"\]\((?!\w+:|#)([^)#\s]+)", link, text)


def status() -> str:
    """What was run and what was not, as README has it."""
    text = (ROOT / "README.md").read_text("utf-8")
    begin, end = "<!-- what was run: begin -->", "<!-- what was run: end -->"
    return text[text.index(begin) + len(begin) : text.index(end)]


def notebook(path: str) -> str:
    """A notebook as markdown: its cells in order, and what they printed."""
    cells = json.loads((ROOT / path).read_text("utf-8"))["cells"]
    parts = []
    for kind, run in groupby(cells, key=lambda cell: cell["cell_type"]):
        for cell in run:
            source = "".join(cell["source"])
            if kind == "markdown":
                parts.append(re.sub(r"\A# .*\n", "", source))
                continue
            parts.append(f"```python\n{source}\n```")
            shown = "".join(
                line for output in cell["outputs"] for line in output.get("text", ())
            ).rstrip()
            if shown:
                parts.append(f"```text\n{shown}\n```")
    return "\n\n".join(parts) + "\n"


MADE: dict[str, Callable[..., str]] = {
    "config": config_keys,
    "commands": commands,
    "metrics": metrics,
    "file": included,
    "status": status,
    "notebook": notebook,
}
"""What a page can ask for."""
