"""The language of a document that does not name one, as far as its letters tell."""

from __future__ import annotations

import re

RIGHT_TO_LEFT = frozenset(("ar", "he", "fa", "ur", "yi", "ps", "sd", "ug", "dv", "ku"))
"""Languages whose pages begin at the right."""

_SCRIPTS = (
    ("ko", re.compile(r"[\uac00-\ud7a3\u1100-\u11ff]")),
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("zh", re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")),
    ("ar", re.compile(r"[\u0620-\u064a\u066e-\u06d3]")),
    ("he", re.compile(r"[\u05d0-\u05ea]")),
    ("el", re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]")),
    ("ru", re.compile(r"[\u0400-\u052f]")),
    ("th", re.compile(r"[\u0e01-\u0e2e]")),
    ("hi", re.compile(r"[\u0904-\u0939]")),
)
_LEAST_SHARE = 0.3
"""Of the letters; documents of other scripts have much Latin in names and code."""
_KANA_SHARE = 0.05
"""Likewise: no Chinese text has kana, and Japanese may have little of it."""


_LOOKED_AT = 20_000
"""Characters of a text that tell its script."""


def of_script(text: str) -> str | None:
    """The most usual language of a text's script; None for Latin and for what is mixed."""
    text = text[:_LOOKED_AT]
    letters = sum(char.isalpha() for char in text)
    for language, script in _SCRIPTS:
        share = _KANA_SHARE if language == "ja" else _LEAST_SHARE
        if letters and len(script.findall(text)) > share * letters:
            return language
    return None


def language_of(named: str | None, text: str, default: str) -> str:
    """Two letters: what a document names, unless it names English and is written otherwise.

    Args:
        named: Value of its `lang` attribute, if it has one.
        text: Of the document.
        default: For one that names none and is written in Latin letters.
    """
    language = (named or "").replace("_", "-").split("-")[0].strip().lower()[:2]
    if language and language.isalpha() and language != "en":
        return language
    return of_script(text) or language or default
