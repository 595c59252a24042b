"""Text as the bench compares it: one normal form and two similarities.

See docs/formats.md#normalised-text and docs/formats.md#pass-rules.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from rapidfuzz import fuzz, process

MAX_TEXT_CHARS = 1_000_000
"""Longest transcription to test, in characters; a page of 8,000 tokens has about 40,000."""

_BREAK = re.compile(r"<br/?>")
_BOLD_STARS = re.compile(r"\*\*(.*?)\*\*")
_BOLD_BARS = re.compile(r"__(.*?)__")
_TAGS = re.compile(r"</?[bi]>")
_STARS = re.compile(r"\*(.*?)\*")
_BARS = re.compile(r"_(.*?)_")
_LOOKALIKES = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201a": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u201e": '"',
        "\uff3f": "_",
        "\u2013": "-",
        "\u2014": "-",
        "\u2011": "-",
        "\u2012": "-",
        "\u2212": "-",
        "\u00b5": "\u03bc",
    }
)


class WorkLimitError(RuntimeError):
    """A bounded search or comparison gave up; its answer is unknown."""


def normalize(text: str) -> str:
    """Returns the form in which the bench compares text (docs/formats.md#normalised-text).

    Line-break tags become spaces, bold and italic marks are removed, runs of white space become one
    space, the text is NFC, and typographic quotes and dashes become ASCII. The ends are not
    stripped, and any pair of ``_`` or ``*`` on a line is a mark (``snake_case_name`` loses both).
    """
    text = _strip_bold(_BREAK.sub(" ", text))
    text = _strip_bold(_TAGS.sub("", text))
    if "*" in text:
        text = _STARS.sub(r"\1", text)
    if "_" in text:
        text = _BARS.sub(r"\1", text)
    text = collapse_spaces(text)
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", text).translate(_LOOKALIKES)


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
    cutoff = at_least * 100 - 1e-6
    for _, score, index in process.extract_iter(
        text, choices, scorer=fuzz.ratio, score_cutoff=cutoff
    ):
        if score / 100 >= at_least:
            yield index
