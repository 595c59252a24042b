"""A transcription split into what unit tests look at: clean prose, headings, emphasis, formulas.

Works for any script: if words are not separated by spaces (Chinese, Japanese, Thai, ...), runs of
characters take the place of words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from olmrl.markup.enclosed import Enclosed, Pair
from olmrl.markup.text import normalize

_CODE = Enclosed(Pair("^```", ".*?", "^```$"), flags=re.MULTILINE | re.DOTALL)
_TABLE = Enclosed(Pair(r"<table\b", ".*?", "</table>"), flags=re.IGNORECASE | re.DOTALL)
_DISPLAY_MATH = Enclosed(
    Pair(r"\$\$", ".+?", r"\$\$"), Pair(r"\\\[", ".+?", r"\\\]"), flags=re.DOTALL
)
_INLINE_MATH = Enclosed(
    Pair(r"\\\(", ".+?", r"\\\)"),
    Pair(r"(?<![\\$\w])\$", r"[^$\n]+?", r"\$(?![\w$])"),
    flags=re.DOTALL,
)
_IMAGE = re.compile(r"!\[[^\]]*\]\([^)]*\)")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_NOTE = Enclosed(
    Pair(r"\[\^", r"[^\]\s]{1,200}", r"\]:?"),
    Pair(r"<sup\b", r"[^>]*>.*?", "</sup>"),
    Pair(r"<sub\b", r"[^>]*>.*?", "</sub>"),
    flags=re.IGNORECASE,
)
_TAG = Enclosed(Pair("</?[a-zA-Z]", "[^<>]*", ">"), Pair("<!--", ".*?", "-->"), flags=re.DOTALL)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_BULLET = re.compile(r"^\s*(?:[-*+•]|\d{1,3}[.)])\s+")
_RULE = re.compile(r"^\s*(?:-{3,}|\*{3,}|_{3,})\s*$", re.MULTILINE)
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*|<(?:b|strong)>([^<\n]+)</(?:b|strong)>", re.IGNORECASE)
_ITALIC = re.compile(
    r"(?<![*\w])\*([^*\n]+)\*(?![*\w])|<(?:i|em)>([^<\n]+)</(?:i|em)>", re.IGNORECASE
)
_PIPE_ROW = re.compile(r"^\s*\|.*\|\s*$")
_SENTENCE_END = re.compile(r"(?<=[.!?…؟۔।])[\"'”’)\]]*\s+|(?<=[。！？])")
_CUT = "\0"
_UNICODE_SCRIPT = re.compile(r"[\u00b2\u00b3\u00b9\u2070-\u209f]")
_NO_SPACES = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
)


@dataclass(frozen=True)
class Reading:
    """The testable content of one page."""

    text: str
    """The whole body, normalised as the bench compares it."""
    sentences: tuple[str, ...]
    """Normalised sentences of running text in reading order, free of markup and formulas."""
    headings: tuple[str, ...]
    bold: tuple[str, ...]
    italic: tuple[str, ...]
    formulas: tuple[str, ...]
    """LaTeX between delimiters, in order, without duplicates."""
    dollar_math: bool
    """Whether any formula is between dollar signs."""
    tables: tuple[str, ...]
    """HTML of each table."""


def read(body: str) -> Reading:
    """Split a markdown body (without front matter) into its testable parts."""
    body = _CODE.sub(f"\n\n{_CUT}\n\n", body)
    tables = tuple(_TABLE.findall(body))
    rest = _TABLE.sub(f"\n\n{_CUT}\n\n", body)
    formulas = [_inside(m) for m in (*_DISPLAY_MATH.findall(rest), *_INLINE_MATH.findall(rest))]
    prose = _RULE.sub("", _HEADING.sub(_CUT, _without_math(rest)))
    return Reading(
        text=_normal(body.replace(_CUT, "")),
        sentences=tuple(_sentences(prose)),
        headings=_clean_all(_HEADING.findall(rest)),
        bold=_clean_all(a or b for a, b in _BOLD.findall(_without_math(rest))),
        italic=_clean_all(a or b for a, b in _ITALIC.findall(_without_math(rest))),
        formulas=tuple(dict.fromkeys(f for f in formulas if f)),
        dollar_math=any(
            m.startswith("$") for m in (*_DISPLAY_MATH.findall(rest), *_INLINE_MATH.findall(rest))
        ),
        tables=tables,
    )


def _normal(text: str) -> str:
    """As the public benchmark compares it: what it reads like that, the default mode reads too."""
    return normalize(text, compat=True)


def spaceless(text: str) -> bool:
    """Whether most letters are of scripts without spaces between words."""
    letters = sum(c.isalpha() for c in text)
    return letters > 0 and 2 * len(_NO_SPACES.findall(text)) > letters


def words(text: str) -> list[str]:
    """Words in order, without surrounding punctuation; runs of 4 characters if spaceless."""
    found = []
    for run in text.split():
        bare = _strip_punctuation(run)
        if spaceless(bare):
            found += [piece for piece in _windows(bare) if piece]
        elif bare:
            found.append(bare)
    return found


def plain(text: str) -> bool:
    """Whether a needle suits a text test: it has text, no markup and no superscript digits."""
    if _UNICODE_SCRIPT.search(text) or "\\" in text or any(_TAG.finditer(text)) or "|" in text:
        return False
    return any(c.isalnum() for c in text)


def _windows(run: str) -> Iterator[str]:
    piece = ""
    for char in run:
        if char.isalnum() or unicodedata.category(char).startswith("M"):
            piece += char
        else:
            piece = ""
        if len(piece) == 4:
            yield piece
            piece = ""


def _strip_punctuation(run: str) -> str:
    start, end = 0, len(run)
    while start < end and unicodedata.category(run[start])[0] in "PS":
        start += 1
    while end > start and unicodedata.category(run[end - 1])[0] in "PS":
        end -= 1
    return run[start:end]


def _inside(formula: str) -> str:
    """The LaTeX without its delimiters."""
    mark = 2 if formula.startswith(("$$", "\\")) else 1
    return formula[mark:-mark].strip()


def _without_math(text: str) -> str:
    return _INLINE_MATH.sub(_CUT, _DISPLAY_MATH.sub(_CUT, text))


def _clean_all(pieces: Iterator[str] | list[str] | tuple[str, ...]) -> tuple[str, ...]:
    cleaned = (_normal(_LINK.sub(r"\1", piece)).strip() for piece in pieces)
    return tuple(dict.fromkeys(piece for piece in cleaned if plain(piece)))


def _sentences(prose: str) -> Iterator[str]:
    prose = _NOTE.sub(_CUT, _LINK.sub(r"\1", _IMAGE.sub(_CUT, prose)))
    for block in re.split(r"\n\s*\n", prose):
        lines = [_BULLET.sub(_CUT, line) for line in block.splitlines()]
        lines = [_CUT if _PIPE_ROW.match(line) else line for line in lines]
        joint = "\n" if spaceless(block) else " "
        for piece in re.split(f"[{_CUT}\n]+", joint.join(lines)):
            for sentence in _SENTENCE_END.split(_normal(_TAG.sub(_CUT, piece))):
                for part in sentence.split(_CUT):
                    if plain(part):
                        yield part.strip()
