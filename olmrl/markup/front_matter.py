"""The YAML head of a page transcription and the typed record it holds.

The format is in docs/formats.md#front-matter.

A transcription, on disk and as model output, is ``---``, five ``key: value`` lines, ``---`` and the
body. As model output passes through here too, the head is untrusted input: its size and nesting are
bounded, and anchors, aliases and tags are rejected before anything is expanded.
"""

import json
import re
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import yaml

from olmrl.markup.language import of_script

ROTATIONS = (0, 90, 180, 270)
"""Allowed values of `rotation_correction`: degrees, counter-clockwise."""

MAX_HEAD_CHARS = 4096
"""Longest head to parse as YAML, in characters; a real one has about 110."""

MAX_DEPTH = 8
"""Deepest YAML nesting to parse; a real head has depth 2."""

_OPEN = "---\n"
_CLOSE = "\n---"
_UNQUOTED_NO = re.compile(
    r"^primary_language:[ \t]+no[ \t]*(?:#.*)?$", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True)
class PageResponse:
    """What a model says about one page.

    Raises:
        ValueError: `rotation_correction` is not one of `ROTATIONS`.
        TypeError: A field has the wrong type.
    """

    primary_language: str | None
    """Two-letter language code; None for a page without text."""
    is_rotation_valid: bool
    """True if the page image is upright."""
    rotation_correction: int
    """Degrees counter-clockwise that turn the page upright: 0, 90, 180 or 270."""
    is_table: bool
    """True if most of the page is a table."""
    is_diagram: bool
    """True if most of the page is a diagram."""
    natural_text: str | None
    """The transcription itself (the body below the head); None for a blank page."""

    def __post_init__(self) -> None:
        if self.rotation_correction not in ROTATIONS:
            raise ValueError(
                f"rotation_correction is {self.rotation_correction!r}, must be one of {ROTATIONS}"
            )
        if not isinstance(self.rotation_correction, int):
            raise TypeError(f"rotation_correction is {self.rotation_correction!r}, must be an int")
        for name in ("is_rotation_valid", "is_table", "is_diagram"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is {getattr(self, name)!r}, must be true or false")
        for name in ("primary_language", "natural_text"):
            if not isinstance(getattr(self, name), str | None):
                raise TypeError(f"{name} is {getattr(self, name)!r}, must be text or null")


HEAD_FIELDS = tuple(f.name for f in fields(PageResponse) if f.name != "natural_text")
"""The five keys of the head, in the order they are written."""


def split(text: str, *, compat: bool = False) -> tuple[dict[str, Any], str]:
    """Splits a transcription into the mapping of its head and its body, stripped at both ends.

    The head must start at the very first character. If there is none, or it is not a YAML mapping
    within the bounds of this module, the mapping is empty and the body is the whole text.

    Args:
        text: The transcription.
        compat: Read an unquoted ``no`` as a YAML boolean, as the public code does, and not as
            Norwegian.
    """
    found = _find_head(text)
    if found is None:
        return {}, text.strip()
    head, body = found
    loaded = _load(head, compat)
    if loaded is None:
        return {}, text.strip()
    return dict(loaded), body.strip()


def strip(text: str) -> str:
    """Returns the body without its head; the text is unchanged if it has no such head.

    A head only counts if it has at least one of `HEAD_FIELDS`, so a page that merely starts with a
    horizontal rule keeps its first lines.
    """
    head, body = split(text)
    return body if any(name in head for name in HEAD_FIELDS) else text


def parse(text: str, *, compat: bool = False) -> PageResponse:
    """Reads a whole transcription into a `PageResponse`.

    Args:
        text: The transcription, head and body.
        compat: Keep the public behaviour: the word ``None`` is a language name, and an unquoted
            ``no`` means no language.

    Raises:
        ValueError: No head, a missing or unknown key, or a value of the wrong kind.
    """
    head, body = split(text, compat=compat)
    if not head:
        raise ValueError("front matter is missing or is not a YAML mapping between two '---' lines")
    for key in head:
        if key not in HEAD_FIELDS:
            raise ValueError(f"front matter has unknown key {key!r}, allowed: {HEAD_FIELDS}")
    for name in HEAD_FIELDS:
        if name not in head:
            raise ValueError(f"front matter lacks the key {name!r}")
    try:
        return PageResponse(
            primary_language=_as_language(head["primary_language"], compat),
            is_rotation_valid=_as_bool(head["is_rotation_valid"]),
            rotation_correction=_as_rotation(head["rotation_correction"]),
            is_table=_as_bool(head["is_table"]),
            is_diagram=_as_bool(head["is_diagram"]),
            natural_text=body or None,
        )
    except TypeError as error:
        raise ValueError(f"front matter: {error}") from error


def is_plain(text: str) -> bool:
    """Whether a text is markdown alone: it says something, and no head is begun."""
    return bool(text.strip()) and not text.lstrip().startswith("---")


def of_reference(text: str, language: str = "en") -> PageResponse:
    """Reads the truth of a page: a whole transcription, or plain markdown.

    Plain markdown stands for an upright page that is mostly text.

    Args:
        text: The reference.
        language: Of plain markdown in Latin letters; other letters tell theirs.

    Raises:
        ValueError: As for `parse`.
    """
    if not text.strip():
        raise ValueError("is empty; a blank page is front matter alone")
    if not is_plain(text):
        return parse(text)
    return PageResponse(of_script(text) or language, True, 0, False, False, text.strip())


def format(response: PageResponse, *, null: str = "null") -> str:
    """Writes a transcription: the five head lines in canonical order, then the body.

    Args:
        response: What to write. If it has no text, the result ends at the closing ``---``.
        null: The word for a missing language.
    """
    language = null if response.primary_language is None else _plain(response.primary_language)
    head = (
        f"---\nprimary_language: {language}\n"
        f"is_rotation_valid: {response.is_rotation_valid}\n"
        f"rotation_correction: {int(response.rotation_correction)}\n"
        f"is_table: {response.is_table}\n"
        f"is_diagram: {response.is_diagram}\n---"
    )
    return f"{head}\n{response.natural_text}" if response.natural_text else head


def _find_head(text: str) -> tuple[str, str] | None:
    if not text.startswith(_OPEN):
        return None
    end = text.find(_CLOSE, len(_OPEN), len(_OPEN) + MAX_HEAD_CHARS + len(_CLOSE))
    if end < 0:
        return None
    return text[len(_OPEN) : end], text[end + len(_CLOSE) :]


_ALLOWED_TAGS = (
    None,
    *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "null", "bool", "int", "float")),
)


class _BoundedLoader(yaml.SafeLoader):
    """A safe loader without anchors, aliases, uncommon tags or deep nesting."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        peek: Any = self.peek_event
        event = peek()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise yaml.YAMLError("anchors and aliases are not allowed in front matter")
        if event.tag not in _ALLOWED_TAGS:
            raise yaml.YAMLError(f"the tag {event.tag} is not allowed in front matter")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.YAMLError(f"front matter is nested deeper than {MAX_DEPTH}")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


@lru_cache(maxsize=4096)
def _load(head: str, compat: bool) -> dict[str, Any] | None:
    """The head as a mapping, or None if it is not one; cached, as siblings share their heads."""
    try:
        loaded = yaml.load(head, Loader=_BoundedLoader)
    except Exception:  # its constructors raise what they run into: impossible dates, numbers
        return None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        return None
    if not compat and loaded.get("primary_language") is False and _UNQUOTED_NO.search(head):
        loaded["primary_language"] = "no"
    return loaded


def _as_language(value: object, compat: bool) -> Any:
    if isinstance(value, bool) or not value:
        return None
    if not compat and isinstance(value, str) and value.strip().lower() in ("none", "null"):
        return None
    return value


def _as_bool(value: object) -> Any:
    return value.lower() == "true" if isinstance(value, str) else value


def _as_rotation(value: object) -> Any:
    if not isinstance(value, str):
        return int(value) if isinstance(value, bool) else value
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"rotation_correction is {value!r}, must be one of {ROTATIONS}") from None


def _plain(language: str) -> str:
    """The language as a YAML scalar: bare if it reads back unchanged, else quoted."""
    loaded = _load(f"primary_language: {language}", False)
    reads_back = loaded is not None and loaded.get("primary_language") == language
    return language if reads_back else json.dumps(language)
