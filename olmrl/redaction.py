"""What is refused where it would be written down or shown: secrets, and text that no file takes.

Configurations, journals and summaries are files that people share; logs and errors repeat what was
asked for. None of them needs a secret: credentials come from the environment or the storage's own
files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_IN_ADDRESS = re.compile(
    r"(?:^|::)[a-z][a-z0-9+.-]*://(?:[^/?#\s]*@|\S*[?&#](?:[\w-]*(?:signature|token|secret)|sig|"
    r"(?:\w*_?)?key|auth|password|passwd|pwd)=)",
    re.IGNORECASE,
)
"""An address with a password before its host, or a signature or key behind it."""
_KEY = re.compile(
    r"(?<![\w-])(?:hf_[A-Za-z0-9]{30,}|sk-(?=[\w-]*[0-9])(?=[\w-]*[A-Z])[\w-]*[A-Za-z0-9]{20}[\w-]*|"
    r"AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{30,})(?!\w)"
)
"""How keys of the Hub, of model servers, of AWS and of GitHub look."""
_NAME = re.compile(
    r"(?:^|_)(?:password|passwd|secret|credentials?|(?:api|access|private)_?key|"
    r"(?:access|auth|api|hf|bearer|session)_token)$|^token$",
    re.IGNORECASE,
)
"""What an option is called that takes a secret."""


def can_be_written(text: str) -> bool:
    """Whether text is UTF-8 without zero bytes; the name of a file may be other bytes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything that holds no other values."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple | set):
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{key}.{number}")
    else:
        yield key, value


def secret_in(value: Any, key: str = "") -> str:
    """What makes a value a secret, to go on after its key: "has a key in it"; "" if it is none."""
    if not isinstance(value, str):
        return ""
    if _IN_ADDRESS.search(value):
        return "is an address with a password or key in it"
    if _KEY.search(value):
        return "has a key in it"
    named = value and _NAME.search(key.rpartition(".")[2])
    return "is called as a secret is" if named else ""


def refuse_secrets(values: Mapping[str, Any], where: str, written: str) -> None:
    """Refuse secrets, without repeating them.

    Args:
        values: of a configuration, or settings.
        where: what the error begins with.
        written: where they would be read, as "the journal is written to OUT".

    Raises:
        ValueError: names the key.
    """
    for key, value in leaves(values):
        if reason := secret_in(value, key):
            raise ValueError(
                f"{where}: {key} {reason}, and {written}; give credentials in the environment or "
                "in the storage's own files"
            )
