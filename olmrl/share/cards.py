"""The text of cards: front matter that the Hub reads, and text from elsewhere made harmless."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

LICENCES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "mpl-2.0", "lgpl-3.0", "gpl-3.0"),
    *("agpl-3.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
    *("cc-by-nd-4.0", "cc-by-nc-nd-4.0", "odc-by", "odbl", "pddl", "openrail", "unlicense"),
    *("cdla-permissive-2.0", "etalab-2.0", "gemma", "llama3.3", "other"),
)
"""Licences by the names that the Hub has for them."""
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_ACTIVE = re.compile(r"[\\`*<>\[\]|~&#!$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""What markdown and HTML would act on; an underscore inside a word it leaves alone."""


class _Dumper(yaml.SafeDumper):
    """Writes every text on one line, so that none can end the block that it stands in."""


def _one_line(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if re.search(r"[\n\r\x85\u2028\u2029]", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _one_line)


def one_line_yaml(values: Mapping[str, Any]) -> str:
    """YAML whose texts are never broken over lines."""
    return str(
        yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9)
    )


def front_matter(values: Mapping[str, Any]) -> str:
    """The head of a card; keys without a value are left out."""
    given = {name: value for name, value in values.items() if value not in (None, "", [], {}, ())}
    return f"---\n{one_line_yaml(given)}---\n"


def plain(text: object) -> str:
    """Text that markdown shows as it is, on one line."""
    flat = " ".join(str(text).split())
    return _ACTIVE.sub(lambda found: f"&#{ord(found[0])};", flat)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A markdown table of texts from anywhere."""
    lines = [header, ["---"] * len(header), *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def check_repo(name: str) -> None:
    """Refuse what cannot be the name of a repository.

    Raises:
        ValueError: it is not of the form `org/name`.
    """
    if not _REPO.fullmatch(name) or "--" in name or ".." in name or name.endswith(".git"):
        raise ValueError(
            f"{name}: not a name on the Hub; it has the form org/name, of letters, digits, '-', "
            "'_' and '.'"
        )


def check_licence(name: str | None) -> str:
    """The licence, if one is named.

    Raises:
        ValueError: none is, or one that the Hub does not know.
    """
    known = ", ".join(LICENCES)
    if name is None:
        raise ValueError(f"--licence: name the one it is shared under; one of {known}")
    if name not in LICENCES:
        raise ValueError(f"--licence {name}: unknown; one of {known}")
    return name
