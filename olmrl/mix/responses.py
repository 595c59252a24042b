"""A labelling model's answer -> `PageResponse`: where silver labels enter.

See docs/formats.md#labelling-answers.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from olmrl.markup.front_matter import HEAD_FIELDS, PageResponse

Turn = Literal["clockwise", "counter-clockwise"]
"""How the model was told to count `rotation_correction`; the public schema says clockwise."""

FIELDS = (*HEAD_FIELDS, "natural_text")
"""Fields of an answer."""


class BadAnswer(ValueError):
    """An answer that must be asked for again; `kind` groups the reasons."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind = kind
        """`http`, `refused`, `truncated`, `malformed` or `empty`."""
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


def answer_text(body: Any) -> str:
    """The text of a chat completion that finished normally.

    Args:
        body: The JSON body of a /chat/completions answer.

    Raises:
        BadAnswer: refused, cut off at the token limit, filtered, empty or not a completion.
    """
    try:
        choice = body["choices"][0]
        message = choice["message"]
        finish = choice.get("finish_reason")
        refusal, content = message.get("refusal"), message.get("content")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise BadAnswer("malformed", "not a chat completion") from error
    if refusal:
        raise BadAnswer("refused", str(refusal)[:200])
    if finish == "length":
        raise BadAnswer("truncated", "cut off at the token limit")
    if finish != "stop":
        raise BadAnswer("refused", f"finish_reason is {finish!r}")
    if not isinstance(content, str) or not content.strip():
        raise BadAnswer("empty", "the answer has no content")
    return content


def answer_object(body: Any) -> dict[str, Any]:
    """The JSON object in a chat completion (see `answer_text`)."""
    try:
        value = json.loads(answer_text(body))
    except json.JSONDecodeError as error:
        raise BadAnswer("malformed", f"content is not JSON ({error.msg})") from error
    if not isinstance(value, dict):
        raise BadAnswer("malformed", "content is not a JSON object")
    return value


def counter_clockwise(degrees: Any, turn: Turn) -> Any:
    """Degrees as olmrl counts them; 90 and 270 are swapped if the model counts clockwise."""
    return {90: 270, 270: 90}.get(degrees, degrees) if turn == "clockwise" else degrees


def from_answer(value: dict[str, Any], turn: Turn) -> PageResponse:
    """Build the typed record from an answer's object.

    Args:
        value: The six fields; both null and "null" mean no language.
        turn: Which way its `rotation_correction` turns.

    Raises:
        BadAnswer: a field is missing or of the wrong type.
    """
    missing = [name for name in FIELDS if name not in value]
    if missing:
        raise BadAnswer("malformed", f"fields are missing: {', '.join(missing)}")
    rotation = value["rotation_correction"]
    if isinstance(rotation, bool) or not isinstance(rotation, int):
        raise BadAnswer("malformed", f"rotation_correction is {rotation!r}")
    text = value["natural_text"]
    if isinstance(text, str) and not is_unicode(text):
        raise BadAnswer("malformed", "natural_text is not valid Unicode (a lone surrogate)")
    try:
        return PageResponse(
            primary_language=language(value["primary_language"]),
            is_rotation_valid=value["is_rotation_valid"],
            rotation_correction=counter_clockwise(rotation, turn),
            is_table=value["is_table"],
            is_diagram=value["is_diagram"],
            natural_text=text.strip() or None if isinstance(text, str) else text,
        )
    except (ValueError, TypeError) as error:
        raise BadAnswer("malformed", str(error)) from error


def is_unicode(text: str) -> bool:
    """Whether a text can be written at all: JSON's escapes allow halves of surrogate pairs."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def language(value: Any) -> Any:
    """A language code; None for all the ways in which models write "none"."""
    if isinstance(value, str) and value.strip().lower() in ("", "null", "none"):
        return None
    return value
