"""Which modules read a configuration key, found in their sources, so that no table can be wrong.

A module counts as a reader of key `k` of a section where it reads an attribute `k`, or a property
of the section that reads it, from something that it calls by the section's name (`rollout.workers`)
or, if it names the section's class, from anything that is not called like another section. A name
that only this section has counts wherever it is read from something called `config`.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

PACKAGE = Path(__file__).parents[1]


class _Module(NamedTuple):
    """What a module does with attributes."""

    text: str
    reads: frozenset[tuple[str, str]]
    """(holder, attribute): `("rollout", "workers")` for `self._config.rollout.workers`."""
    aliases: frozenset[tuple[str, str]]
    """(name, attribute): `("settings", "evaluation")` for `settings = config.evaluation`."""


def readers(
    section: type[BaseModel],
    key: str,
    names: Iterable[str],
    others: set[str],
    sections: Iterable[type[BaseModel]],
) -> set[str]:
    """Modules of olmrl that read a key, as paths below the package.

    Args:
        section: Class that holds the key.
        key: Name of the key in it.
        names: Keys under which configurations hold the section.
        others: Keys that hold other sections.
        sections: Classes of all sections.
    """
    wanted = {key, *_properties_on(section, key)}
    elsewhere = {
        name
        for each in sections
        if each is not section
        for name in (*each.model_fields, *vars(each))
    }
    holders = set(names)
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name == "schema.py":
            continue
        module = _module(path)
        here = holders | {name for name, attribute in module.aliases if attribute in holders}
        knows_class = section.__name__ in module.text
        for holder, attribute in module.reads:
            if attribute not in wanted:
                continue
            alone = holder == "config" and attribute not in elsewhere
            if holder in here or alone or (knows_class and holder and holder not in others):
                found.add(path.relative_to(PACKAGE).as_posix())
    return found


@cache
def _module(path: Path) -> _Module:
    text = path.read_text("utf-8")
    nodes = list(ast.walk(ast.parse(text)))
    reads = frozenset(
        (_last_name(node.value), node.attr) for node in nodes if isinstance(node, ast.Attribute)
    )
    aliases = frozenset(
        (_last_name(name), value.attr)
        for node in nodes
        if isinstance(node, ast.Assign)
        for name, value in _assigned(node)
        if isinstance(value, ast.Attribute)
    )
    return _Module(text, reads, aliases)


def _assigned(node: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Names and their values, those of `a, b = c, d` too."""
    for target in node.targets:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            yield from zip(target.elts, node.value.elts, strict=False)
        else:
            yield target, node.value


def _last_name(node: ast.expr) -> str:
    """`rollout` of both `rollout` and `self._config.rollout`; empty for anything else."""
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return str(name).lstrip("_")


@cache
def _properties_on(section: type[BaseModel], key: str) -> frozenset[str]:
    """Methods and properties of a section that read one of its keys."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(tree, ast.ClassDef)
    return frozenset(
        method.name
        for method in tree.body
        if isinstance(method, ast.FunctionDef)
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute) and node.attr == key and _last_name(node.value) == "self"
    )
