"""The stages in which a model writes a page: what each asks, and what its answer must be."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from olmrl.mix.prompts import field, strict_format
from olmrl.mix.responses import BadAnswer, language
from olmrl.synth.asking.question import Question
from olmrl.synth.asking.template import Template
from olmrl.synth.pdfs.model_html import read_model_html

STAGES = ("orientation", "layout", "html", "refine")
"""Stages of every page; `densify` is one more if it is wanted."""
ANSWER_TOKENS = {"orientation": 40, "layout": 500, "html": 3500, "refine": 3500, "densify": 6000}
"""What answers usually take, for estimates."""
_HTML_TOKENS = 3500
"""Of the HTML inside a request."""
_PIXELS_PER_TOKEN = 750
_CHARS_PER_TOKEN = 4
MOST_COLUMNS = 8
_FENCED = re.compile(r"```(\w*)[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)
_TURNS = (0, 90, 180, 270)

Pictures = Callable[[], Sequence[bytes]]


class Orientation(NamedTuple):
    """How a page stands."""

    turn: int
    """Degrees clockwise that make it upright."""
    is_blank: bool
    is_legible: bool


class Layout(NamedTuple):
    """What a page looks like."""

    language: str | None
    columns: int
    text: str
    """JSON of all that was said."""


@dataclass(frozen=True)
class Asked:
    """What all questions about one page share."""

    page: str
    """Content id of the page."""
    templates: Mapping[str, Template]
    side: int
    """Pixels of the longer side of the pictures."""
    width: int
    """CSS pixels of the paper, upright."""
    height: int

    def orientation(self, pictures: Pictures) -> Question:
        """How does the page stand?"""
        return self._question("orientation", {}, {}, pictures, _ORIENTATION)

    def layout(self, turn: int, pictures: Pictures) -> Question:
        """What does the page look like?"""
        return self._question("layout", {"turn": turn}, {}, pictures, _LAYOUT)

    def html(self, turn: int, layout: Layout, pictures: Pictures) -> Question:
        """The page as HTML."""
        values = self.size | {"layout": layout.text}
        content = {"turn": turn, **values}
        return self._question("html", content, values, pictures, _HTML)

    def refine(self, turn: int, html: str, faults: Sequence[str], pictures: Pictures) -> Question:
        """The HTML again, after a look at its render."""
        # the faults follow from the HTML, so they are no part of what is asked
        content = {"turn": turn, **self.size, "html": _digest(html)}
        told = "\n".join(f"- {fault}" for fault in faults)
        values = self.size | {"html": html, "faults": f"\nMend first:\n{told}\n" if told else ""}
        return self._question("refine", content, values, pictures, _HTML)

    def densify(self, html: str, pictures: Pictures) -> Question:
        """The HTML with twice the text."""
        content = {**self.size, "html": _digest(html)}
        return self._question("densify", content, self.size | {"html": html}, pictures, _HTML)

    @property
    def size(self) -> dict[str, Any]:
        """For the templates."""
        return {"width": self.width, "height": self.height}

    def _question(
        self,
        stage: str,
        content: Mapping[str, Any],
        values: Mapping[str, Any],
        pictures: Pictures,
        response_format: Mapping[str, Any],
    ) -> Question:
        template = self.templates[stage]
        return Question(
            stage,
            self.page,
            template,
            {"page": self.page, "side": self.side, **content},
            values,
            pictures,
            response_format,
            PARSERS[stage],
            expected_tokens(stage, template, self.side, self.width / self.height),
        )


def expected_tokens(
    stage: str, template: Template, side: int, aspect: float = 0.75
) -> tuple[int, int]:
    """Tokens of a request and its answer, as far as one can say before it is asked.

    Args:
        stage: Of the question.
        template: Its text.
        side: Pixels of the longer side of the pictures.
        aspect: Width over height of the page.
    """
    pixels = side * side * min(aspect, 1 / aspect)
    pictures = 2 if stage == "refine" else 1
    tokens = len(template.text) / _CHARS_PER_TOKEN + pictures * pixels / _PIXELS_PER_TOKEN
    inside = {"html": ANSWER_TOKENS["layout"], "refine": _HTML_TOKENS, "densify": _HTML_TOKENS}
    tokens += inside.get(stage, 0)
    return round(tokens), ANSWER_TOKENS[stage]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


# -- answers


def orientation_of(text: str) -> Orientation:
    """Read an answer about orientation.

    Raises:
        BadAnswer: it lacks something, or says what cannot be.
    """
    value = _object(text)
    turn = value.get("rotation_correction")
    if turn not in _TURNS or isinstance(turn, bool):
        raise BadAnswer("malformed", f"rotation_correction is {turn!r}, must be one of {_TURNS}")
    flags = [value.get(name) for name in ("is_blank", "is_legible")]
    if not all(isinstance(flag, bool) for flag in flags):
        raise BadAnswer("malformed", "is_blank or is_legible is not true or false")
    return Orientation(int(turn), bool(flags[0]), bool(flags[1]))


def layout_of(text: str) -> Layout:
    """Read an answer about the layout; see `orientation_of`."""
    value = _object(text)
    columns, blocks = value.get("columns"), value.get("blocks")
    if type(columns) is not int or not 1 <= columns <= MOST_COLUMNS:
        raise BadAnswer("malformed", f"columns is {columns!r}, must be 1..{MOST_COLUMNS}")
    if not isinstance(blocks, list) or not all(isinstance(block, str) for block in blocks):
        raise BadAnswer("malformed", "blocks is not a list of texts")
    code = language(value.get("language"))
    if code is not None and not (isinstance(code, str) and re.fullmatch(r"[A-Za-z]{2}", code)):
        raise BadAnswer("malformed", f"language is {code!r}, must be two letters or null")
    kept = {name: value.get(name) for name in ("language", "columns", "header", "footer", "blocks")}
    told = json.dumps(kept, ensure_ascii=False, indent=1)
    return Layout(code.lower() if code else None, columns, told)


def html_of(text: str) -> str:
    """The HTML in an answer: a JSON object's, a fenced block's, or the answer itself."""
    text = _said(text)
    try:
        found = _object(text).get("html")
    except BadAnswer:
        blocks = [body for kind, body in _FENCED.findall(text) if kind.lower() in ("html", "")]
        found = blocks[-1] if blocks else text[max(0, text.find("<")) :]
    if not isinstance(found, str) or not re.search(r"<\w", found):
        raise BadAnswer("malformed", "there is no HTML in it")
    if re.search(r"<html\b", found, re.IGNORECASE) and not re.search(
        r"</html\s*>", found[-200:], re.IGNORECASE
    ):
        raise BadAnswer("malformed", "the HTML ends before </html>")
    try:
        read_model_html(found)
    except ValueError as error:
        raise BadAnswer("malformed", str(error)) from error
    return found


def _said(text: str) -> str:
    """An answer without what a model thought aloud before it."""
    return text.rpartition("</think>")[2]


def _object(text: str) -> dict[str, Any]:
    """The JSON object in an answer; models wrap it in words and fences where nothing forbids it."""
    text = _said(text)
    fenced = [body for _, body in _FENCED.findall(text)]
    between = text[text.find("{") : text.rfind("}") + 1]
    for candidate in (text, *reversed(fenced), between):
        try:
            value = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    raise BadAnswer("malformed", "the answer holds no JSON object")


PARSERS: Mapping[str, Callable[[str], Any]] = {
    "orientation": orientation_of,
    "layout": layout_of,
    "html": html_of,
    "refine": html_of,
    "densify": html_of,
}
"""Readers of each stage's answers."""

_ORIENTATION = strict_format(
    "orientation",
    {
        "rotation_correction": {
            **field("integer", "Degrees clockwise by which to turn the page upright."),
            "enum": list(_TURNS),
        },
        "is_blank": field("boolean", "Whether there is nothing to read."),
        "is_legible": field("boolean", "Whether most of the text can be read with certainty."),
    },
)
_LAYOUT = strict_format(
    "layout",
    {
        "language": field(["string", "null"], "Two-letter code of the main language."),
        "columns": field("integer", "Columns of running text."),
        "header": field(["string", "null"], "Running header."),
        "footer": field(["string", "null"], "Running footer or page number."),
        "blocks": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Everything else, in reading order.",
        },
    },
)
_HTML = strict_format("page", {"html": field("string", "The whole HTML document.")})
