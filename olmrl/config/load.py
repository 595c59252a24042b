"""Turns a YAML file and `a.b=c` overrides into a validated configuration."""

from __future__ import annotations

import difflib
import math
import re
import reprlib
import types
import typing
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from olmrl import shipped
from olmrl.config.annotations import types_in
from olmrl.config.schema import GrpoConfig, SftConfig
from olmrl.pipes import read_text
from olmrl.redaction import can_be_written, leaves, refuse_secrets

ConfigType = TypeVar("ConfigType", bound=BaseModel)


class ConfigError(ValueError):
    """An unusable configuration; the message names file, key, value and what is allowed."""


_REPLACED = {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "timestamp")}


class _Loader(yaml.SafeLoader):
    """Safe YAML that rejects duplicate keys and reads what people mean.

    2e-5 is a number, 010 is ten, `off` is a word, and 2024-01-31 is a name, not a date.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own attribute)
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(
                None, None, "a list or mapping cannot be a key", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} occurs twice", key_node.start_mark
            )
        seen.add(key)
    return typing.cast("dict[Any, Any]", yaml.SafeLoader.construct_mapping(loader, node, deep=True))


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9][0-9_]*$"), list("-+0123456789")
)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


MAX_VALUES = 100_000
"""Most values of one configuration."""


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """Parse YAML into a mapping.

    Raises:
        ConfigError: not YAML, a duplicate key, or not a mapping (names source and line).
    """
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{source}{where}: {getattr(error, 'problem', error)}") from error
    except Exception as error:  # its constructors raise what they run into: a long number
        reason = str(error).partition(";")[0]
        raise ConfigError(f"{source}: a value cannot be read ({reason})") from error
    _check_size(value, source)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{source}: expected keys and values, found {type(value).__name__}")
    return value


def _check_size(value: Any, source: str) -> None:
    """Refuse aliases that repeat without end, and values too large to be a configuration.

    Raises:
        ConfigError: there are more than `MAX_VALUES`, repeated ones counted each time.
    """
    waiting, count = [value], 0
    while waiting:
        inner = waiting.pop()
        count += 1
        if count > MAX_VALUES:
            raise ConfigError(
                f"{source}: more than {MAX_VALUES} values, or an alias (*name) inside itself"
            )
        if isinstance(inner, dict):
            waiting += inner.values()
        elif isinstance(inner, list):
            waiting += inner


def looks_like_olmocr(values: Mapping[str, Any]) -> bool:
    """Whether plain YAML values are a public olmocr training configuration."""
    dataset, model = values.get("dataset"), values.get("model")
    if "data" in values or not isinstance(dataset, Mapping):
        return False
    lists = [dataset.get(key) for key in ("train", "eval")]
    entries = [e for found in lists if isinstance(found, list) for e in found]
    named = isinstance(model, Mapping) and "name" in model
    return named or any(isinstance(e, Mapping) and "root_dir" in e for e in entries)


def load(
    schema: type[ConfigType], path: str | Path | None, overrides: Sequence[str] = ()
) -> ConfigType:
    """Read a configuration file and apply overrides.

    Args:
        schema: `GrpoConfig` or `SftConfig`.
        path: YAML file (`configs/...` may be one of olmrl's own), or None for overrides alone.
        overrides: `section.key=value` strings; values are parsed as YAML; later ones win.

    Raises:
        ConfigError: unknown key (with the nearest known one), wrong type or value, unreadable file.
    """
    source = str(path) if path else "command line"
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = parse_yaml(read_text(shipped.find(path)), source)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not UTF-8 text ({error.reason})") from error
        if looks_like_olmocr(values):
            raise ConfigError(
                f"{path}: this is an olmocr training configuration; convert it with "
                f"`python -m olmrl.config convert {path} -o OUT` and pass --config OUT"
            )
        _check_command(schema, values, source)
    for text in overrides:
        _override(schema, values, text)
    return validate(schema, values, source)


def _check_command(schema: type[BaseModel], values: Mapping[str, Any], source: str) -> None:
    """Refuse the configuration of the other command, of which most keys would be unknown.

    Raises:
        ConfigError: it is one.
    """
    data = values.get("data")
    pairs = isinstance(data, Mapping) and isinstance(data.get("train"), list)
    if schema is GrpoConfig and (pairs or "training" in values):
        raise ConfigError(f"{source}: this is a configuration of `olmrl sft`, not of `olmrl grpo`")
    if schema is SftConfig and not pairs and {"rewards", "rollout", "algorithm"} & set(values):
        raise ConfigError(f"{source}: this is a configuration of `olmrl grpo`, not of `olmrl sft`")


def _override(schema: type[BaseModel], values: dict[str, Any], text: str) -> None:
    key, equals, raw = text.partition("=")
    if not equals or not key:
        hint = (
            f"; a file is given as --config {text}"
            if text.lower().endswith((".yaml", ".yml"))
            else ""
        )
        raise ConfigError(f"{text!r}: overrides have the form section.key=value{hint}")
    *parents, last = key.split(".")
    node = values
    for name in parents:
        child = node.setdefault(name, {})
        if child is None:
            child = node[name] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"{text!r}: {name} is not a section")
        node = child
    node[last] = raw if _is_text(schema, key, raw) else _yaml_value(text, raw)


def _yaml_value(text: str, raw: str) -> Any:
    try:
        return parse_yaml(f"value: {raw}", repr(text))["value"]
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{text!r}: {error}") from error


def _is_text(schema: type[BaseModel], key: str, raw: str) -> bool:
    """Whether an override is a text as it stands: its key takes nothing else.

    Quotes around the whole, `null` and nothing at all keep their meaning in YAML.
    """
    if not raw or raw == "null" or raw[0] in "'\"":
        return False
    *parents, last = key.split(".")
    current: Any = schema
    for name in parents:
        field = current.model_fields.get(name) if is_model(current) else None
        found = [] if field is None else [t for t in types_in(field.annotation) if is_model(t)]
        current = found[0] if found else None
    field = current.model_fields.get(last) if is_model(current) else None
    return field is not None and _is_text_type(field.annotation)


def _is_text_type(annotation: Any) -> bool:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return all(isinstance(value, str) for value in arguments)
    if origin is typing.Annotated:
        return _is_text_type(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return all(_is_text_type(kind) for kind in arguments if kind is not types.NoneType)
    return annotation is str


def validate(schema: type[ConfigType], values: dict[str, Any], source: str) -> ConfigType:
    """Validate plain values against the schema.

    Raises:
        ConfigError: one sentence per problem.
    """
    try:
        refuse_secrets(values, source, "the configuration is written to run.dir, logs and W&B")
    except ValueError as error:
        raise ConfigError(str(error)) from None
    try:
        config = schema.model_validate(values)
    except ValidationError as error:
        found = error.errors()
        places = [problem["loc"] for problem in found]
        problems = [
            _explain(schema, problem)
            for problem in found
            # a list is called too short if an entry of it is refused
            if problem["type"] != "too_short" or not _inside(places, problem["loc"])
        ]
        raise ConfigError(f"{source}: " + "; ".join(problems)) from None
    _refuse_unusable(values, source)
    return config


def _refuse_unusable(values: Any, source: str) -> None:
    """Refuse numbers and texts that no key takes; the options of parts have no type of their own.

    Raises:
        ConfigError: not a number, infinity, an absurd size, or text that is no UTF-8.
    """
    for key, value in leaves(values):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{source}: {key} is {value}, must be a finite number")
        if isinstance(value, int) and abs(value) > _MOST:
            raise ConfigError(f"{source}: {key} is beyond 2**63, must be a sensible number")
        if isinstance(value, str) and not can_be_written(value):
            raise ConfigError(f"{source}: {key} is {value!r}, must be UTF-8 without zero bytes")


_MOST = 2**63
"""Beyond any number that means something."""


_UNION_PARTS = ("WorkerRange", "int", "constrained-int")
"""What pydantic adds to the place of a value in a union."""


def _inside(places: Sequence[tuple[int | str, ...]], outer: tuple[int | str, ...]) -> bool:
    return any(len(place) > len(outer) and place[: len(outer)] == outer for place in places)


def _explain(schema: type[BaseModel], problem: ErrorDetails) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(part for part in location if part not in _UNION_PARTS)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}; {_hint(schema, location)}"
    if problem["type"] == "missing":
        return f"{key}: needs a value"
    message = problem["msg"].removeprefix("Value error, ")
    if not location:
        return message
    if problem["type"] == "value_error":  # olmrl's own sentence, which names the value
        return f"{key}: {message}"
    if problem["type"] in ("model_type", "tuple_type"):
        section = _section_at(schema, location)
        entry = "..." if section is None else f"{{{next(iter(section.model_fields))}: ...}}"
        listed = problem["type"] == "tuple_type"
        message = f"needs a list, as [{entry}]" if listed else f"needs keys and values, as {entry}"
    return f"{key}: {message}, got {reprlib.repr(problem['input'])}"


_MOST_HINTS = 3
"""Places named where a key stands that was looked for elsewhere."""


def _hint(schema: type[BaseModel], location: Sequence[str]) -> str:
    """What may have been meant by an unknown key."""
    section = _section_at(schema, location[:-1])
    known = list(section.model_fields) if section else []
    elsewhere = list(_places(schema, location[-1]))
    near = difflib.get_close_matches(location[-1], known, n=1)
    if 0 < len(elsewhere) <= _MOST_HINTS:
        near = elsewhere
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"known keys: {', '.join(sorted(known))}"


def _places(schema: type[BaseModel], name: str, prefix: str = "") -> Iterator[str]:
    """Dotted keys outside of lists that end in a name."""
    for key, field in schema.model_fields.items():
        if key == name:
            yield prefix + key
        inner = next((t for t in types_in(field.annotation) if is_model(t)), None)
        if inner is not None and not _is_list(field.annotation):
            yield from _places(inner, name, f"{prefix}{key}.")


def _is_list(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (tuple, list)


def _section_at(schema: type[BaseModel], location: Sequence[str]) -> type[BaseModel] | None:
    """Class of a section or of the entries of a list."""
    current: Any = schema
    for part in location:
        if part.isdigit():
            continue
        field = current.model_fields.get(part) if is_model(current) else None
        if field is None:
            continue
        current = next((t for t in types_in(field.annotation) if is_model(t)), None)
    return current if is_model(current) else None


def is_model(candidate: Any) -> bool:
    """Whether a type is a section of a configuration."""
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)


def dump(config: BaseModel) -> str:
    """Write the resolved configuration as YAML (secrets are never part of it)."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
