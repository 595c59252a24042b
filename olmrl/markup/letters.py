"""Characters that are others in another shape: ligatures, wide letters, dashes, quotes.

Unicode calls these compatibility characters. Folded are those whose plain form says the same. Kept
are raised ones (10\u00b2 is not 102), those in circles, and spaces with an accent.
"""

from __future__ import annotations

import re
import unicodedata

from olmrl.markup.visible import strip_glyphless

LOOKALIKES = str.maketrans(
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
"""What the public benchmark folds."""

_FOLDED = frozenset(
    (
        *("<compat>", "<wide>", "<narrow>", "<font>", "<sub>", "<square>", "<small>", "<vertical>"),
        *("<initial>", "<medial>", "<final>", "<isolated>", "<noBreak>"),
    )
)
_MORE = {
    **dict.fromkeys("\u2010\u2015\u2043\ufe58\u2e3a\u2e3b", "-"),
    **dict.fromkeys("\u201b\u2032\u2035", "'"),
    **dict.fromkeys("\u201f\u2033\u2036", '"'),
    "\u2044": "/",
    "\u2215": "/",
}
_APART = "\ufdd0"
"""Stands before a fraction until it is known whether a digit does."""
_RAISED = str.maketrans(
    "0123456789+-\u2212=()n",
    "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b\u207b\u207c\u207d\u207e\u207f",
)
_CAN_BE_RAISED = re.compile("[0-9+\u2212=()n,. -]+")
HELD = 0x10FF00
"""An escaped sign, added to this number, waits where no page has characters."""


class _Fold(dict[int, str]):
    """The plain form of each character, found when it is first asked for."""

    def __missing__(self, code: int) -> str:
        self[code] = plain = _plain(chr(code))
        return plain


def fold(text: str) -> str:
    """The plain form of a text: NFC, without characters that show nothing, held signs back."""
    if not _TO_FOLD.search(text):
        return _HELD.sub(lambda sign: chr(ord(sign[0]) - HELD), text)
    if "\u200c" in text or "\u200d" in text:
        text = strip_glyphless(text)
    text = unicodedata.normalize("NFC", text).translate(_PLAIN)
    if _APART in text:
        # 1\u00bd is "1 1/2", so that it does not become eleven halves
        text = re.sub(rf"(?<=\d){_APART}", " ", text).replace(_APART, "")
    return unicodedata.normalize("NFC", text)


def raised(text: str) -> str:
    """Digits and signs as raised characters, if the text is nothing else; else as it is."""
    return text.translate(_RAISED) if _CAN_BE_RAISED.fullmatch(text) else text


def _plain(char: str) -> str:
    if HELD <= ord(char) < HELD + 128:
        return chr(ord(char) - HELD)
    if char == _APART or (not strip_glyphless(char) and char not in "\u200c\u200d"):
        return ""
    kind = unicodedata.decomposition(char).split(" ")[0]
    folds = kind in _FOLDED and char not in _MORE
    plain = unicodedata.normalize("NFKC", char) if folds or kind == "<fraction>" else char
    if plain[0].isspace() and not char.isspace():
        return char  # an accent alone would become a space and a combining accent
    apart = _APART if kind == "<fraction>" else ""
    return apart + "".join(_MORE.get(c, c) for c in plain).translate(LOOKALIKES)


_PLAIN = _Fold()
_HELD = re.compile(f"[{chr(HELD)}-{chr(HELD + 127)}]")
_TO_FOLD = re.compile(f"[^\t-\r -~\ufffc{chr(HELD)}-{chr(HELD + 127)}]")
"""All but ASCII, held signs, and the sign that rewards put for a letter: these are plain."""
