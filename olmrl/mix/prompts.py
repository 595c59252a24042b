"""What the labelling models are asked, with versions, and the JSON they must answer in.

See docs/formats.md#prompts.

The texts are olmrl's own. The public silver prompt can be used instead: it is read from the
installed olmocr package or from a file, and its sha256 is verified.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib
from collections.abc import Sequence
from typing import Any

from olmrl import storage
from olmrl.markup.front_matter import ROTATIONS

SILVER_NAMES = "olmrl-silver-v1, olmocr-silver-v3, olmocr-silver-v3:PATH, file:PATH"
"""What `silver_prompt` accepts, for help texts."""

_SILVER_V1 = """\
You transcribe document pages. The attached image shows one page of a longer document; it is \
{width} pixels wide and {height} pixels high.
Decide first in which language the page is written, whether its text stands upright, and whether \
most of the page is a table or a figure. Then write down what the page says, in the order in which \
a person would read it, as markdown.
- Keep the wording, spelling and punctuation of the page. Sentences that begin or end outside the \
page stay cut. Read handwriting too.
- Leave out running headers, running footers and page numbers; keep footnotes, captions and \
references.
- Formulas: LaTeX between \\( and \\) inside a line, between \\[ and \\] on lines of their own; no \
dollar signs, and no Unicode symbols where LaTeX has a command.
- Tables: HTML with th for headings and with rowspan and colspan as printed; plain text and \
formulas in the cells, no line-break tags, no markdown tables.
- Figures: ![what can be seen](page_x_y_width_height.png) at the place where the figure stands.
- Add nothing that is not on the page. When there is nothing to read, natural_text is null."""

_SILVER_V3_SHA256 = "e14a3e1169ab39eb0d737a1a0b11609e23ba42172e4ad30a8460e419f751120c"
"""sha256 of the public mix-1025 prompt with its two numbers replaced by {width} and {height}."""

CLEAN_VERSION = "olmrl-clean-v1"
"""Version of `CLEAN_PROMPT`; part of a run's settings."""

CLEAN_PROMPT = """\
Below is a human transcription of the attached page image. Turn it into clean markdown of the page.
- The page decides. Correct only where the transcription and the page disagree, or where \
formatting is wrong; keep the old or unusual spelling that the page really has.
- Remove what transcribers added: bracketed remarks, question marks for doubtful words, page \
labels. Where a bracket holds the word itself, keep the word.
- Join words that were hyphenated at line ends and lines that belong to one paragraph; keep \
headings, lists, verses and addresses as lines.
- Formulas as LaTeX in \\( \\) or \\[ \\]; tables as simple HTML with th, rowspan and colspan, no \
line-break tags and no markdown inside; figures as ![what can be seen](page_x_y_width_height.png).
- Leave out running headers, running footers, page numbers and stamps of the archive.
- When the page shows nothing to read, cleaned_text is empty and is_page_all_blank is true.
In corrections_made, name every change of wording in a few words each; confidence_score says how \
sure you are (0 to 1) that the text is now complete and right.

Transcription:
{transcription}"""


def silver_prompt(name: str) -> str:
    """The template of a labelling prompt, with {width} and {height} for `fill`.

    Args:
        name: `olmrl-silver-v1` (olmrl's own), `olmocr-silver-v3` (mix-1025's, from the installed
            olmocr package), `olmocr-silver-v3:PATH` (the same in a file), `file:PATH` (any).

    Raises:
        ValueError: unknown name, unreadable file, olmocr not installed, or a wrong sha256.
    """
    kind, _, path = name.partition(":")
    if name == "olmrl-silver-v1":
        return _SILVER_V1
    if kind == "file" and path:
        return _read(path)
    if kind == "olmocr-silver-v3":
        return _checked(_read(path) if path else _from_olmocr(), name)
    raise ValueError(f"prompt {name!r}: unknown; allowed: {SILVER_NAMES}")


def fill(template: str, width: int, height: int) -> str:
    """Write the page size (pixels) into a prompt; other braces stay."""
    return template.replace("{width}", str(width)).replace("{height}", str(height))


def _read(path: str) -> str:
    try:
        return storage.read_document(path)
    except OSError as error:
        raise ValueError(f"prompt file {path}: cannot be read ({error.strerror})") from error


def _from_olmocr() -> str:
    try:
        module = importlib.import_module("olmocr.prompts.prompts")
    except ImportError as error:
        raise ValueError(
            "prompt olmocr-silver-v3 is read from the olmocr package, which is not installed; "
            "install olmocr, or name a file: olmocr-silver-v3:PATH"
        ) from error
    text = str(module.build_openai_silver_data_prompt_v3_simple(1234567, 7654321))
    return text.replace("1234567", "{width}").replace("7654321", "{height}")


def _checked(text: str, name: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    if digest != _SILVER_V3_SHA256:
        raise ValueError(
            f"prompt {name!r}: sha256 is {digest[:12]}, the public mix-1025 prompt has "
            f"{_SILVER_V3_SHA256[:12]} (with {{width}} and {{height}} for its page sizes)"
        )
    return text


def chat_body(
    options: argparse.Namespace, text: str, pngs: Sequence[bytes], response_format: dict[str, Any]
) -> dict[str, Any]:
    """The chat request about page images.

    Args:
        options: model, temperature and max_tokens.
        text: The prompt.
        pngs: The images.
        response_format: A schema of this module.
    """
    urls = ["data:image/png;base64," + base64.b64encode(png).decode("ascii") for png in pngs]
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    content += [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {
        "model": options.model,
        "messages": [{"role": "user", "content": content}],
        "temperature": options.temperature,
        "max_completion_tokens": options.max_tokens,
        "response_format": response_format,
    }


def digest(text: str) -> str:
    """Short fingerprint of a prompt, kept in a run's settings."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def page_schema() -> dict[str, Any]:
    """The `response_format` of a labelling request: strict JSON, fields in answering order.

    `rotation_correction` is asked for clockwise, as in the public schema; `responses.from_answer`
    turns it into olmrl's counter-clockwise value.
    """
    return strict_format(
        "page_response",
        {
            "primary_language": field(
                ["string", "null"], "Two-letter code of the main language, null without any text."
            ),
            "is_rotation_valid": field(
                "boolean", "Whether the text stands upright; figures and charts do not count."
            ),
            "rotation_correction": {
                **field("integer", "Degrees clockwise by which to turn the page upright."),
                "enum": list(ROTATIONS),
            },
            "is_table": field("boolean", "Whether most of the page is a table."),
            "is_diagram": field("boolean", "Whether most of the page is a figure."),
            "natural_text": field(
                ["string", "null"], "The page as markdown, null when there is nothing to read."
            ),
        },
    )


def clean_schema() -> dict[str, Any]:
    """The `response_format` of a cleaning request."""
    page = page_schema()["json_schema"]["schema"]["properties"]
    head = {name: page[name] for name in page if name != "natural_text"}
    return strict_format(
        "cleaned_page",
        {
            "is_page_all_blank": field("boolean", "Whether the page shows nothing to read."),
            **head,
            "corrections_made": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Every change of wording, a few words each.",
            },
            "cleaned_text": field("string", "The page as markdown."),
            "confidence_score": field("number", "0 to 1: complete and right."),
        },
    )


def field(kind: str | list[str], description: str) -> dict[str, Any]:
    """A property of `strict_format`."""
    return {"type": kind, "description": description}


def strict_format(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    """The `response_format` of a JSON object that has exactly these properties, in this order."""
    return {
        "type": "json_schema",
        "json_schema": {
            "name": name,
            "strict": True,
            "schema": {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            },
        },
    }
