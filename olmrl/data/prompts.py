"""The instruction that goes with the page image, and the chat text it becomes.

The prompts: docs/formats.md#prompts.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

from olmrl import shipped, storage
from olmrl.errors import PageRefused
from olmrl.models.family import Family

Order = Literal["text_first", "image_first"]

_V1 = """\
Transcribe the attached document page.
Start with a YAML front matter between two lines of three dashes, holding exactly these keys in \
this order: primary_language (two-letter code, or null for a page without text), is_rotation_valid \
(True when the page is upright, else False), rotation_correction (0, 90, 180 or 270: degrees \
counter-clockwise that would make it upright), is_table (True when most of the page is a table), \
is_diagram (True when most of the page is a figure).
Then write the page as markdown in natural reading order: formulas as LaTeX in \\( \\) or \\[ \\], \
tables as HTML, figures as markdown images with a short description. Leave out running headers, \
running footers and page numbers. Do not add anything that is not on the page."""

_V4_SHA256 = "c12f21aca8c6c5599cea6176edd974b7ea6a05cf451497abd6370dd449db3979"
"""Of the UTF-8 bytes of the prompt that the released olmOCR-2 checkpoints were trained with."""

_OLMOCR_MODULE = "olmocr.prompts.prompts"


@lru_cache(maxsize=32)
def load_prompt(name: str) -> str:
    """Text of a named prompt.

    Args:
        name: `olmrl-v1` (olmrl's own), `olmocr-v4` (read from the installed olmocr package),
            `olmocr-v4:PATH` (the same prompt in a text file) or `file:PATH` (any text).

    Raises:
        ValueError: unknown name, unreadable or empty file, or the v4 text is not the released one.
    """
    kind, _, path = name.partition(":")
    if name == "olmrl-v1":
        return _V1
    if kind == "file" and path:
        text = _read(path)
        if not text.strip():
            raise ValueError(f"prompt {name!r}: the file is empty")
        return text
    if kind == "olmocr-v4":
        return _checked_v4(_read(path) if path else olmocr_prompt("no_anchoring_v4_yaml"), name)
    raise ValueError(
        f"prompt {name!r}: unknown; allowed: olmrl-v1, olmocr-v4, olmocr-v4:PATH and file:PATH"
    )


def absolute_prompt(name: str) -> str:
    """The same prompt for a process in any folder: the path of a prompt file made absolute.

    A file that comes with olmrl keeps its name, which every node finds where it has olmrl.
    """
    kind, _, path = name.partition(":")
    if not path or storage.is_remote(path) or shipped.find(path) != path:
        return name
    return f"{kind}:{os.path.abspath(os.path.expanduser(path))}"


def _read(path: str) -> str:
    try:
        return storage.read_document(shipped.find(path))
    except OSError as error:
        raise ValueError(f"prompt file {path}: cannot read it ({error.strerror})") from error


def _checked_v4(text: str, name: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    if digest != _V4_SHA256:
        raise ValueError(
            f"prompt {name!r}: sha256 is {digest[:12]}, the released prompt has {_V4_SHA256[:12]}"
        )
    return text


def olmocr_prompt(kind: str, *arguments: str) -> str:
    """Build a public prompt with the installed olmocr package, which alone holds its text.

    Args:
        kind: Name between `build_` and `_prompt` of the package's builder.
        arguments: What the builder takes, e.g. the anchor text.

    Raises:
        ValueError: olmocr is not installed, or has no such prompt.
    """
    try:
        module = importlib.import_module(_OLMOCR_MODULE)
    except ImportError as error:
        raise ValueError(
            "this prompt is read from the olmocr package, which is not installed; install olmocr, "
            "name a file that holds it (olmocr-v4:PATH), or use olmrl-v1"
        ) from error
    builder = getattr(module, f"build_{kind}_prompt", None)
    if builder is None:
        raise ValueError(f"the installed olmocr package has no prompt {kind!r}")
    return str(builder(*arguments))


def with_anchor(prompt: str, anchor_text: str) -> str:
    """Append the text that the PDF itself carries to an instruction."""
    return f"{prompt}\n\nText found in the PDF, with its position:\n{anchor_text}"


def chat_text(
    tokenizer: Any,
    prompt: str,
    order: Order,
    family: Family,
    *,
    arguments: Mapping[str, Any],
    anchor_text: str | None = None,
    chat_template: str | None = None,
) -> str:
    """Render the chat of one page up to where the answer starts.

    Args:
        tokenizer: Anything with transformers' `apply_chat_template`.
        prompt: The instruction.
        order: Whether the instruction comes before or after the image.
        family: The model's; it names the placeholder.
        arguments: Of the template.
        anchor_text: Text of the PDF to append to the instruction.
        chat_template: Template that replaces the tokenizer's own.

    Returns:
        Chat text with exactly one placeholder of an image.

    Raises:
        PageRefused: the texts contain a token that belongs to the chat or to an image.
        ValueError: the template does not write one image.
    """
    instruction = prompt if anchor_text is None else with_anchor(prompt, anchor_text)
    placeholder = family.image_token
    for token in (placeholder, family.end_token, *family.banned_tokens):
        if token in instruction:
            raise PageRefused(f"the instruction, or the text of the page in it, contains {token}")
    content = [{"type": "text", "text": instruction}, {"type": "image"}]
    if order == "image_first":
        content.reverse()
    extra = {} if chat_template is None else {"chat_template": chat_template}
    text = str(
        tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=False,
            add_generation_prompt=True,
            **arguments,
            **extra,
        )
    )
    if text.count(placeholder) != 1:
        raise ValueError(
            f"the model's chat template writes {text.count(placeholder)} image placeholders "
            "for one image"
        )
    return text
