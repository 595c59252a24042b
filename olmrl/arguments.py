"""The argument parser of every command, and a type of its options."""

from __future__ import annotations

import argparse
import difflib
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

_NEGATIVE = re.compile(r"-((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|nan)$", re.IGNORECASE)
_KEY = re.compile(r"unrecognized arguments: (?:.* )?--([a-z_]+(?:\.\w+)+)(?:[= ](\S+))?")
_UNKNOWN = re.compile(r"unrecognized arguments: (?:.* )?(--[\w-]+)")


class ArgumentParser(argparse.ArgumentParser):
    """Takes every option by its whole name only, and so do the parsers of its verbs.

    A shortened option would change its meaning with the next option that begins alike.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """As for `argparse.ArgumentParser`."""
        super().__init__(*arguments, **settings | {"allow_abbrev": False})
        # argparse's own knows no exponents, and takes -1e-3 for an option
        self._negative_number_matcher = _NEGATIVE

    def error(self, message: str) -> NoReturn:
        """End with what has to be given, and a message with the option that was meant."""
        found = _UNKNOWN.search(message)
        near = _nearest(found[1], sorted(set(_options(self)))) if found else None
        meant = f"; did you mean {near}?" if near else ""
        if dotted := _KEY.search(message):
            meant = f"; keys of the configuration have no dashes: {dotted[1]}={dotted[2] or '...'}"
        self.exit(2, f"{self._least()}\n{self.prog}: error: {message}{meant}\n")

    def _least(self) -> str:
        """The usage with nothing in it that can be left out, in one line."""
        formatter = self._get_formatter()
        formatter.add_usage(None, [action for action in self._actions if action.required], [])
        return f"{' '.join(formatter.format_help().split())}   (--help lists all options)"

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Refuse an empty word, which would be read as this folder, or as nothing said."""
        ours = not isinstance(action, argparse._SubParsersAction)  # a verb's words are the verb's
        if ours and not arg_string.strip() and arg_string != action.default:
            raise argparse.ArgumentError(action, f"{arg_string!r} is empty")
        return super()._get_value(action, arg_string)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The long options of a parser and of its verbs."""
    for action in parser._actions:
        yield from (option for option in action.option_strings if option.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield from _options(verb)


def _nearest(word: str, known: list[str]) -> str | None:
    """The option that a word begins or resembles."""
    begun = [option for option in known if option.startswith(word)]
    return next(iter(begun or difflib.get_close_matches(word, known, n=1)), None)


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """An argparse type: a whole number in a range, ends included."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < least or (most is not None and value > most):
            allowed = f"at least {least}" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{text} is not {allowed}")
        return value

    return read


def real(least: float, most: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """An argparse type: a finite number in a range, ends included; `above`: but for the least."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not (math.isfinite(value) and least <= value <= most) or (above and value == least):
            if least == -math.inf:
                raise argparse.ArgumentTypeError(f"{text} is not a finite number")
            bound = f"above {least:g}" if above else f"of at least {least:g}"
            allowed = bound if most == math.inf else f"from {least:g} to {most:g}"
            raise argparse.ArgumentTypeError(f"{text} is not a number {allowed}")
        return value

    return read


positive = whole(1)
"""An argparse type: a whole number of at least 1."""
