"""Text as the bench compares it: one normal form and two similarities.

See docs/formats.md#normalised-text and docs/formats.md#pass-rules.
"""

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence

from rapidfuzz import fuzz, process

from olmrl.markup.emphasis import without_emphasis
from olmrl.markup.letters import HELD, LOOKALIKES, fold, raised
from olmrl.markup.patterns import one_of
from olmrl.markup.visible import SOFT_BREAK

MAX_TEXT_CHARS = 1_000_000
"""Longest transcription to test, in characters; a page of 8,000 tokens has about 40,000."""

_BREAK = re.compile(r"<br/?>")
_BOLD_STARS = re.compile(r"\*\*(.*?)\*\*")
_BOLD_BARS = re.compile(r"__(.*?)__")
_TAGS = re.compile(r"</?[bi]>")
_STARS = re.compile(r"\*(.*?)\*")
_BARS = re.compile(r"_(.*?)_")

_TO_READ = re.compile(r"[\x00-\x08\x0e-\x1f\x7f<\\*_&]|--")
"""What the default form changes in ASCII, besides white space."""
_ANY_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
FORMATTING_TAGS = (
    *("b", "i", "strong", "em", "u", "s", "strike", "del", "ins", "mark", "small", "big", "font"),
    *("span", "sup", "sub", "a", "code", "kbd", "samp", "tt", "var", "cite", "abbr", "dfn"),
)
"""Tags that are none of the text."""
_NAME = one_of(FORMATTING_TAGS)
_ATTRIBUTE = r"""\s+[a-z-]{1,20}\s*=\s*(?:"[^"<>]{0,200}"|'[^'<>]{0,200}')"""
_FORMATTING = re.compile(rf"</?{_NAME}(?:{_ATTRIBUTE}){{0,5}}\s*>", re.IGNORECASE)
_SCRIPTS = re.compile(
    rf"<(su[bp])(?:{_ATTRIBUTE}){{0,5}}\s*>([^<>]{{0,60}})</\1\s*>", re.IGNORECASE
)
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+\-.!|<>~$&%\n])")
_REFERENCE = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_TYPED_DASH = re.compile("--(?<!---)-?(?!-)")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f]")
_HELD = re.compile(f"[{chr(HELD)}-{chr(HELD + 127)}]")


class WorkLimitError(RuntimeError):
    """A bounded search or comparison gave up; its answer is unknown."""


def normalize(text: str, *, compat: bool = False) -> str:
    r"""Returns the form in which the bench compares text (docs/formats.md#normalised-text).

    Line-break tags become spaces, bold and italic marks are removed, runs of white space become one
    space, the text is NFC, and typographic quotes and dashes become ASCII. The ends are not
    stripped.

    Args:
        text: Markdown, or a needle.
        compat: Nothing else, and any pair of ``_`` or ``*`` on a line is a mark, so that
            ``snake_case_name`` loses both. Otherwise marks are paired as they render, tags of
            formatting, escapes and character references are read, characters without a glyph go,
            and characters that are others in another shape are these (`olmrl.markup.letters`).
    """
    return _normalize_compat(text) if compat else _normalize_read(text)


def _normalize_read(text: str) -> str:
    if text.isascii() and not _TO_READ.search(text):
        return collapse_spaces(text)
    if "\u00ad" in text:
        text = SOFT_BREAK.sub("", text)
    if _CONTROLS.search(text):
        text = _CONTROLS.sub("", text)
    if "<" in text:
        text = _without_tags(text)
    if "\\" in text:
        text = _ESCAPE.sub(_escaped, _HELD.sub("", text))
    if "*" in text or "_" in text:
        text = without_emphasis(text)
    if "&" in text:
        text = _REFERENCE.sub(lambda found: html.unescape(found[0]), text)
    if not text.isascii():
        text = fold(text)
    if "--" in text:
        text = _TYPED_DASH.sub("-", text)
    return collapse_spaces(text)


def _escaped(found: re.Match[str]) -> str:
    """The sign itself, kept from being a mark; at the end of a line, a line break."""
    return "\n" if found[1] == "\n" else chr(HELD + ord(found[1]))


def _without_tags(text: str) -> str:
    text = _ANY_BREAK.sub(" ", text)
    if "<s" in text or "<S" in text:
        text = _SCRIPTS.sub(_script, text)
    return _FORMATTING.sub("", text)


def _script(found: re.Match[str]) -> str:
    """Raised and lowered text; what is raised and has characters for it becomes these."""
    return raised(found[2]) if found[1].lower() == "sup" else found[2]


def _normalize_compat(text: str) -> str:
    text = _strip_bold(_BREAK.sub(" ", text))
    text = _strip_bold(_TAGS.sub("", text))
    if "*" in text:
        text = _STARS.sub(r"\1", text)
    if "_" in text:
        text = _BARS.sub(r"\1", text)
    text = collapse_spaces(text)
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", text).translate(LOOKALIKES)


def collapse_spaces(text: str) -> str:
    """Replaces each run of white space with one space, also at the ends."""
    joined = " ".join(text.split())  # several times faster than a regular expression
    if not joined:
        return " " if text else ""
    return (" " if text[0].isspace() else "") + joined + (" " if text[-1].isspace() else "")


def _strip_bold(text: str) -> str:
    if "**" in text:
        text = _BOLD_STARS.sub(r"\1", text)
    if "__" in text:
        text = _BOLD_BARS.sub(r"\1", text)
    return text


def best_ratio(needle: str, text: str, at_least: float) -> float:
    """Similarity, 0 to 1, of the needle to the best-matching part of the text.

    The measure is symmetric: the shorter of the two strings slides along the longer one.

    Args:
        needle: What to look for.
        text: Where to look for it.
        at_least: The threshold of interest; a similarity clearly below it becomes 0.
    """
    if needle and needle in text:
        return 1.0
    return fuzz.partial_ratio(needle, text, score_cutoff=at_least * 100 - 1e-6) / 100


def find_similar(text: str, choices: Sequence[str], at_least: float) -> Iterator[int]:
    """Yields the indices of the choices that are similar to a text to at least `at_least`, 0..1."""
    if at_least >= 1:
        yield from (index for index, choice in enumerate(choices) if choice == text)
        return
    cutoff = at_least * 100 - 1e-6
    for _, score, index in process.extract_iter(
        text, choices, scorer=fuzz.ratio, score_cutoff=cutoff
    ):
        if score / 100 >= at_least:
            yield index
