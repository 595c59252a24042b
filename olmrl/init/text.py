"""A configuration as YAML with a comment for every key: what it means, and why it is so. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel

from olmrl.config.explain import keys

_WIDTH = 100


def commented(
    values: Mapping[str, Any],
    schema: type[BaseModel],
    notes: Mapping[str, str],
    head: Sequence[str],
) -> str:
    """The file.

    Args:
        values: what it sets.
        schema: `GrpoConfig` or `SftConfig`, whose descriptions become the comments.
        notes: further comments by dotted key.
        head: lines of the comment at its top.
    """
    told = {key.name: key.description for key in keys(schema)}
    lines = [part for line in head for part in _head(line)]
    for name, value in values.items():
        lines += ["", *_entry(name, value, "", told, notes)]
    return "\n".join(lines) + "\n"


def _entry(
    path: str, value: Any, indent: str, told: Mapping[str, str], notes: Mapping[str, str]
) -> Iterator[str]:
    """Lines of a key, those of a section below it."""
    name = path.rpartition(".")[2]
    if isinstance(value, Mapping) and any(key.startswith(f"{path}.") for key in told):
        yield f"{indent}{name}:"
        for key, inner in value.items():
            yield from _entry(f"{path}.{key}", inner, f"{indent}  ", told, notes)
        return
    said = told.get(path) or told.get(f"{path}[]") or ""
    note = notes.get(path)
    yield from _comment(f"{said} ({note})" if note else said, indent)
    if isinstance(value, list):
        yield f"{indent}{name}:"
        yield from (f"{indent}  - {_flow(each)}" for each in value)
    else:
        yield f"{indent}{name}: {_flow(value)}"


def _head(line: str) -> list[str]:
    """A line of the head; commands stay on one line, to be copied."""
    if line.startswith("  olmrl"):
        return [f"# {line}"]
    return textwrap.wrap(
        line,
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="#           ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _comment(text: str, indent: str) -> list[str]:
    start = f"{indent}# "
    return textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=start)


def _flow(value: Any) -> str:
    """A value on one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True
    )
    return text.removesuffix("...\n").strip()
