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
    r"A[KS]IA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}|"
    r"AIza[\w-]{35}|xox[a-z]-[\w-]{20,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]*)(?!\w)|"
    r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----|"
    r"(?<!\w)(?i:bearer|basic)\s+(?=\S{0,200}[0-9])[\w.~+/=-]{16,}"
)
"""How keys of the Hub, of model servers, clouds and code hosts look, and what carries them."""
_NAME = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|secret|credentials?|authorization|"
    r"(?:api|access|private|secret)_?key|(?:access|auth|api|hf|bearer|session)_?token)$|^token$",
    re.IGNORECASE,
)
"""What an option is called that takes a secret."""
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|-")
"""Where words meet in `apiKey` and `x-api-key`."""
_OF_TOKENIZER = re.compile(r"[^\w.~+/=:@-]|^.?$")
"""What a `token` of a model has, as `<|im_end|>`, and no credential."""


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
    name = _HUMP.sub("_", key.rpartition(".")[2])
    if not value or not _NAME.search(name):
        return ""
    harmless = name.lower() == "token" and _OF_TOKENIZER.search(value)
    return "" if harmless else "is called as a secret is"


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
