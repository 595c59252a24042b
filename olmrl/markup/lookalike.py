"""Letters that look like others, as one letter: what a reader cannot tell apart.

For looking for text that should not be there: written in look-alike letters it still is. Not for
text that should be there, where another letter is another reading.
"""

from __future__ import annotations

import unicodedata

_ALIKE = {
    "a": "\u0430\u03b1\u0251\u237a",
    "b": "\u042c\u044c\u0184\u0412\u0392",
    "c": "\u0441\u03f2\u1d04\u2ca5",
    "d": "\u0501\u217e",
    "e": "\u0435\u0395\u0415\u212e\u04bd",
    "f": "\u0192\u017f\ua799",
    "g": "\u0261\u0581\u018d",
    "h": "\u04bb\u0570\u041d\u0397",
    "i": "\u0456\u03b9\u0131\u0269\u04c0\u04cf\u0399\u0406",
    "j": "\u0458\u03f3",
    "k": "\u043a\u03ba\u041a\u039a",
    "l": "\u0399\u04c0\u01c0\u0196\u2113",
    "m": "\u043c\u041c\u039c\u217f",
    "n": "\u0578\u057c\u039d\u0274",
    "o": "\u043e\u03bf\u041e\u039f\u0585\u1d0f\u0d20\u1d11",
    "p": "\u0440\u03c1\u0420\u03a1\u2ca3",
    "q": "\u051b\u0566",
    "r": "\u0433\u1d26\u0280",
    "s": "\u0455\u0405\u01bd\ua731",
    "t": "\u0442\u0422\u03a4\u1d1b",
    "u": "\u057d\u03c5\u028b\u1d1c",
    "v": "\u03bd\u0475\u1d20",
    "w": "\u0461\u051d\u1d21",
    "x": "\u0445\u0425\u03c7\u03a7",
    "y": "\u0443\u0423\u03b3\u03a5\u04af",
    "z": "\u1d22\u0396",
}
_LATIN = {ord(other): letter for letter, others in _ALIKE.items() for other in others}


def skeleton(text: str) -> str:
    """A text in lower case, without accents, with Latin letters for those that look like them."""
    if text.isascii():
        return text.lower()
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return bare.translate(_LATIN).lower().translate(_LATIN)
