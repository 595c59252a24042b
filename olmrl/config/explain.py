"""What a configuration takes: a JSON schema for editors, and one key explained for people."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from olmrl.config.annotations import types_in
from olmrl.config.load import ConfigError, is_model
from olmrl.config.schema import GrpoConfig, SftConfig
from olmrl.config.usage import readers

SCHEMAS: dict[str, type[BaseModel]] = {"sft": SftConfig, "grpo": GrpoConfig}
"""By the command that reads them."""

_BOUNDS = {
    "minimum": ">= {}",
    "exclusiveMinimum": "> {}",
    "maximum": "<= {}",
    "exclusiveMaximum": "< {}",
    "minItems": "at least {} entries",
    "minProperties": "at least {} entries",
}
_KINDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "object": "keys and values",
}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a configuration."""

    name: str
    """Dotted; `[]` follows the name of a list."""
    section: type[BaseModel]
    """Class that holds it."""
    inner: type[BaseModel] | None
    """Class of its value, if that is a section or a list of sections."""
    schema: Mapping[str, Any]
    """Its JSON schema, as the class gives it."""
    required: bool

    @property
    def description(self) -> str:
        """What it means, on one line."""
        own = self.schema.get("description") or (self.inner.__doc__ if self.inner else "") or ""
        return " ".join(own.split())


def json_schema(command: str) -> str:
    """JSON schema of a configuration file, for editors and validators."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    body = SCHEMAS[command].model_json_schema()
    return json.dumps(head | body | {"title": f"olmrl {command}"}, indent=2)


def keys(schema: type[BaseModel], prefix: str = "") -> Iterator[Key]:
    """All keys of a configuration, each section before its own."""
    described = schema.model_json_schema()["properties"]
    for name, field in schema.model_fields.items():
        inner = next((t for t in types_in(field.annotation) if is_model(t)), None)
        listed = described[name].get("type") == "array" and inner is not None
        path = f"{prefix}{name}" + ("[]" if listed else "")
        yield Key(path, schema, inner, described[name], field.is_required())
        if inner is not None:
            yield from keys(inner, f"{path}.")


def explain(name: str) -> str:
    """Explain a key, for each command that has it.

    Args:
        name: Dotted key, e.g. `learner.optimizer.lr`; an index or `[]` after a list may be there.

    Raises:
        ConfigError: no command has it (suggests the nearest).
    """
    wanted = _plain(name)
    found: dict[str, str] = {}
    for command, schema in SCHEMAS.items():
        known = list(keys(schema))
        for key in known:
            if _plain(key.name) == wanted:
                found[command] = _describe(key, known)
    if not found:
        raise ConfigError(f"{name}: no such key; {_nearest(wanted)}")
    if len(set(found.values())) == 1:
        return _headed(", ".join(found), next(iter(found.values())))
    return "\n\n".join(_headed(command, text) for command, text in found.items())


def _headed(commands: str, text: str) -> str:
    first, _, rest = text.partition("\n")
    return f"{first}  ({commands})\n{rest}"


def _plain(name: str) -> str:
    return re.sub(r"\[[^\]]*\]", "", name).strip(".")


def _nearest(wanted: str) -> str:
    known = {_plain(key.name) for schema in SCHEMAS.values() for key in keys(schema)}
    last = wanted.rpartition(".")[2]
    same = sorted(name for name in known if name.rpartition(".")[2] == last)
    by_path = difflib.get_close_matches(wanted, sorted(known), n=3)
    ends = sorted({name.rpartition(".")[2] for name in known})
    similar = difflib.get_close_matches(last, ends, n=2, cutoff=0.7)
    by_end = sorted(name for name in known if name.rpartition(".")[2] in similar)
    near = list(dict.fromkeys([*same, *by_path, *by_end]))[:5]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"sections are {', '.join(sorted(name for name in known if '.' not in name))}"


def _describe(key: Key, known: list[Key]) -> str:
    lines = [key.name, f"  {key.description}"]
    if key.inner is not None and "anyOf" not in key.schema:
        return "\n".join([*lines, *_below(key, known)])
    lines.append(f"  type     {type_text(key.schema)}")
    allowed = allowed_text(key.schema)
    if allowed:
        lines.append(f"  allowed  {allowed}")
    default = "none, it must be given" if key.required else value_text(key.schema.get("default"))
    lines.append(f"  default  {default}")
    lines.append(f"  used by  {', '.join(used_by(key, known)) or 'nothing'}")
    return "\n".join([*lines, *_below(key, known)])


def _below(key: Key, known: list[Key]) -> list[str]:
    """Lines on the keys of a section; none for a plain value."""
    mine = f"{key.name}."
    below = [k for k in known if k.name.startswith(mine) and "." not in k.name[len(mine) :]]
    width = max((len(k.name) for k in below), default=0)
    lines = [f"    {k.name:<{width}}  {k.description}" for k in below]
    return ["  keys:", *lines] if lines else []


def used_by(key: Key, known: list[Key]) -> list[str]:
    """Modules that read a key, as paths below the package; else those that read its section."""
    holders = {k.name: k.inner for k in known if k.inner is not None}
    names = {_end(name) for name, inner in holders.items() if inner is key.section}
    others = {_end(name) for name, inner in holders.items() if inner is not key.section}
    sections = [inner for inner in holders.values() if inner is not None]
    found = readers(key.section, _end(key.name), names, others - names, sections)
    parent = next((k for k in known if k.name == key.name.rpartition(".")[0]), None)
    return sorted(found) if found or parent is None else used_by(parent, known)


def _end(name: str) -> str:
    return _plain(name).rpartition(".")[2]


def type_text(schema: Mapping[str, Any]) -> str:
    """The type of a value, in words."""
    if "anyOf" in schema:
        return ", or ".join(type_text(each) for each in schema["anyOf"])
    if "$ref" in schema:
        return "the keys below"
    if schema.get("type") == "array":
        inner = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        text = f"list of {type_text(inner)}" if inner else "list"
        sizes = schema.get("minItems"), schema.get("maxItems")
        return f"{text}, {sizes[0]} of them" if sizes[0] and sizes[0] == sizes[1] else text
    text = _KINDS.get(schema.get("type", ""), "anything")
    bounds = [form.format(value_text(schema[k])) for k, form in _BOUNDS.items() if k in schema]
    return " ".join([text, " and ".join(bounds)]) if bounds else text


def allowed_text(schema: Mapping[str, Any]) -> str:
    """Values that are allowed, or names that are known."""
    options = [schema, *schema.get("anyOf", ()), schema.get("items") or {}]
    options += [each["properties"]["name"] for each in options if "properties" in each]
    chosen = [value for option in options for value in option.get("enum", ())]
    chosen += [option["const"] for option in options if "const" in option]
    if chosen:
        return ", ".join(value_text(value) for value in chosen)
    names = [value for option in options for value in option.get("examples", ())]
    return ", ".join([*map(str, names), "or package.module:callable"]) if names else ""


def value_text(value: Any) -> str:
    """A value as YAML writes it."""
    if isinstance(value, str):
        return value or '""'
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)
