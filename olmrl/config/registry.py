"""From a name in the configuration to the code it stands for, imported only where it is used.

REWARDS.check("bench")    at load: a registered name, or `package.module:attribute`; no import
REWARDS.load("bench")     where it is used: the class itself
construct("reward bench", Bench, {"average": "macro"})    its options are its arguments
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class Registry:
    """Names of one kind of part."""

    kind: str
    """What is registered, in one word, for messages."""
    paths: Mapping[str, str]
    """What each name stands for, as `package.module:attribute`."""
    reserved: tuple[str, ...] = ()
    """Allowed names that stand for no part of their own, such as `auto`."""

    @property
    def names(self) -> list[str]:
        """Every name that is allowed, import paths aside."""
        return [*self.reserved, *self.paths]

    def check(self, name: object) -> str:
        """Return the name if it is registered, reserved or an import path; imports nothing.

        Raises:
            ValueError: it is none of these; the message has the nearest name and all names.
        """
        known = self.names
        if isinstance(name, str) and (name in known or _IMPORT_PATH.fullmatch(name)):
            return name
        near = suggestion(str(name), known)
        raise ValueError(
            f"unknown {self.kind} {name!r}; {near}allowed: {', '.join(known)}, "
            "or your own as package.module:callable"
        )

    def load(self, name: object) -> Any:
        """Import what a name or import path stands for.

        Raises:
            ValueError: the name is unknown, the module cannot be imported, or lacks the attribute.
        """
        checked = self.check(name)
        module_name, _, attribute = self.paths.get(checked, checked).partition(":")
        try:
            target: Any = importlib.import_module(module_name)
        except ImportError as error:
            raise ValueError(
                f"{self.kind} {name!r}: cannot import {module_name!r} ({error})"
            ) from error
        for part in attribute.split("."):
            if not hasattr(target, part):
                raise ValueError(f"{self.kind} {name!r}: {module_name} has no {attribute!r}")
            target = getattr(target, part)
        return target

    def load_class(self, name: object, base: type) -> Any:
        """Load a class that must be derived from `base`.

        Raises:
            ValueError: as for `load`, or it is something else.
        """
        target = self.load(name)
        if not (isinstance(target, type) and issubclass(target, base)):
            wanted = f"{base.__module__}.{base.__qualname__}"
            raise ValueError(f"{self.kind} {name!r}: is not a class derived from {wanted}")
        return target


def construct(where: str, target: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """Call a class with its options.

    Args:
        where: What is constructed, for messages.
        target: The class.
        options: Keyword arguments, from the configuration.

    Raises:
        ValueError: an option is unknown, missing or has an unusable value.
    """
    check_options(where, target, options)
    try:
        return target(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error


def check_options(
    where: str, target: Callable[..., Any], options: Iterable[str], given: int = 0
) -> None:
    """Check that a callable takes the options by name.

    Args:
        where: What is called, for messages.
        target: A class or function.
        options: Names of keyword arguments.
        given: Leading parameters that the caller fills in, and that are not options.

    Raises:
        ValueError: it does not take one of them.
    """
    parameters = list(inspect.signature(target).parameters.values())[given:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]
    for option in options:
        if option not in known:
            near = suggestion(option, known)
            allowed = f"its options: {', '.join(known)}" if known else "it has no options"
            raise ValueError(f"{where}: unknown option {option!r}; {near}{allowed}")


def suggestion(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'? `, or "" if no known word resembles this one."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""
