"""Masks e-mail addresses, phone numbers, card numbers and IBANs in HTML before it is set.

A find is replaced letter by letter with letters of about the same width, so that the page looks
alike. The dummies say nothing about what they replace but its length: they are drawn by the order
of finds on the page. They cannot be real either: a country code, domain or issuer that nobody has.

A find may be spread over inline elements (`<b>jo</b>hn@...`) or stand in an attribute. What a
reader takes for the same sign counts as such: digits of any script, wide forms, other hyphens.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from lxml import etree
from lxml.html import HtmlElement, fragment_fromstring, tostring

from olmrl.synth.cleaning.personal import finds, luhn
from olmrl.synth.proof.html_truth import parse_page
from olmrl.synth.web.document import Document

_INLINE = {
    *("a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "em", "font", "i"),
    *("ins", "kbd", "label", "mark", "nobr", "q", "s", "samp", "small", "span", "strong", "sub"),
    *("sup", "time", "tt", "u", "var", "wbr"),
}
"""Elements that do not end a find."""

_WIDTHS = ("fijlrt", "mw", "abcdeghknopqsuvxyz")
_INVISIBLE = {0x00AD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF}


@dataclass
class Redactor:
    """Masks what is found in several pieces of one page alike."""

    counts: Counter[str] = field(default_factory=Counter)
    """Finds by kind."""
    _numbers: dict[str, int] = field(default_factory=dict)
    """Of each find, in order."""

    def html(self, source: str) -> str:
        """Redact a whole page.

        Raises:
            ValueError: it cannot be parsed.
        """
        root = parse_page(source)
        if not self.element(root):
            return source
        doctype = root.getroottree().docinfo.doctype
        return f"{doctype}{tostring(root, encoding='unicode')}"

    def fragment(self, source: str) -> str:
        """Redact a piece of HTML with one element at its top."""
        element = fragment_fromstring(source)
        if not self.element(element):
            return source
        return str(tostring(element, encoding="unicode", with_tail=False))

    def text(self, source: str) -> str:
        """Redact plain text."""
        return self._masked(source) or source

    def element(self, root: HtmlElement) -> bool:
        """Redact an element in place; whether anything was found."""
        before = self.counts.total()
        for run in _runs(root):
            whole = "".join(slot.get() for slot in run)
            masked = self._masked(whole)
            at = 0
            for slot in run if masked else ():
                length = len(slot.get())
                slot.set(masked[at : at + length])
                at += length
        return self.counts.total() > before

    def _masked(self, text: str) -> str:
        """The text with its finds masked, of the same length; empty if there are none."""
        view, where = _view(text)
        letters = list(text)
        found = finds(view)
        for find in found:
            self.counts[find.kind] += 1
            dummy = self._dummy(find.kind, view[find.start : find.end])
            for place, sign in zip(where[find.start : find.end], dummy, strict=True):
                letters[place] = _in_the_form_of(letters[place], sign)
        return "".join(letters) if found else ""

    def _dummy(self, kind: str, original: str) -> str:
        """The same for the same letters and digits, however they are grouped."""
        said = "".join(sign for sign in original.lower() if sign.isalnum())
        number = self._numbers.setdefault(f"{kind}/{said}", len(self._numbers))
        return _DRAWN[kind](original, random.Random(f"{kind}/{number}"))


# -- the texts of a page


class _Slot(NamedTuple):
    """A text, tail or attribute of an element."""

    element: HtmlElement
    name: str

    def get(self) -> str:
        if self.name in ("text", "tail"):
            return getattr(self.element, self.name) or ""
        return self.element.get(self.name) or ""

    def set(self, value: str) -> None:
        if self.name in ("text", "tail"):
            setattr(self.element, self.name, value)
        else:
            self.element.set(self.name, value)


def _runs(root: HtmlElement) -> Iterator[list[_Slot]]:
    """Texts that a reader sees as one: up to the next block; then each attribute and comment."""
    run: list[_Slot] = []
    for event, element in etree.iterwalk(root, events=("start", "end", "comment", "pi")):
        if event in ("comment", "pi"):
            yield [_Slot(element, "text")]
            run.append(_Slot(element, "tail"))
            continue
        if element.tag not in _INLINE:
            yield run
            run = []
        run.append(_Slot(element, "text" if event == "start" else "tail"))
    yield run[:-1]  # what follows the root is not its own
    for element in root.iter():
        for name, value in element.attrib.items():
            if name not in _NO_TEXT and not value.startswith("data:"):
                yield [_Slot(element, name)]


_NO_TEXT = {"class", "style", "id", "d", "points", "transform", "viewbox"}


def view_of(sign: str) -> str:
    """How a sign is compared: digits, hyphens, spaces and wide forms as their plain ones."""
    if sign.isascii():
        return " " if sign in "\t\n\r\f" else sign
    digit = unicodedata.decimal(sign, None)
    if digit is not None:
        return str(digit)
    category = unicodedata.category(sign)
    if category == "Pd":
        return "-"
    plain = unicodedata.normalize("NFKC", sign)
    return plain if len(plain) == 1 else sign


def _in_the_form_of(original: str, sign: str) -> str:
    """A dummy's sign, as wide as the original and a digit of the same script."""
    if original.isascii() or not sign.isalnum():
        return sign if view_of(original) != sign else original
    if unicodedata.decimal(original, None) is not None and sign.isdigit():
        return chr(ord(original) - unicodedata.decimal(original) + int(sign))
    wide = "\uff01" <= original <= "\uff5e"
    return chr(ord(sign) + 0xFEE0) if wide else sign


def _view(text: str) -> tuple[str, list[int]]:
    """The text as it is searched, and the place in the text of each of its signs."""
    signs: list[str] = []
    where: list[int] = []
    for place, sign in enumerate(text):
        if ord(sign) in _INVISIBLE:
            continue
        plain = view_of(sign)
        if plain == " " and signs and signs[-1] == " ":
            continue  # as HTML shows it
        signs.append(plain)
        where.append(place)
    return "".join(signs), where


# -- what stands for it


def _drawn_letter(sign: str, rng: random.Random) -> str:
    if sign.isdigit():
        return rng.choice("0123456789")
    if not sign.isalpha():
        return sign
    if not sign.isascii():
        return "x"
    letters = next(group for group in _WIDTHS if sign.lower() in group)
    drawn = rng.choice([letter for letter in letters if letter not in "aeiou"])
    return drawn.upper() if sign.isupper() else drawn


def _email_dummy(original: str, rng: random.Random) -> str:
    """Drawn letters in a top domain of `q`s, which nobody has; `at` and `dot` stay."""
    words = re.compile(r"(?<=[ \[({<])(?:at|\u00e4t|dot|punkt)(?=[ \])}>])|%40", re.IGNORECASE)
    kept = {place for match in words.finditer(original) for place in range(*match.span())}
    last = re.search(r"[^\W\d_]+$", original)
    top = range(*last.span()) if last else range(0)
    drawn = [
        sign if place in kept else _drawn_letter(sign, rng) for place, sign in enumerate(original)
    ]
    for place in top:
        drawn[place] = "q"
    return "".join(drawn)


def _digits_dummy(first: str) -> Callable[[str, random.Random], str]:
    """Drawn digits after a beginning that no number has."""

    def make(original: str, rng: random.Random) -> str:
        beginning = iter("999" if original.startswith("+") else first)
        return "".join(
            next(beginning, None) or _drawn_letter(sign, rng) if sign.isdigit() else sign
            for sign in original
        )

    return make


def _card_dummy(original: str, rng: random.Random) -> str:
    """Of an issuer that is none, and with a wrong check digit."""
    drawn = _digits_dummy("0")(original, rng)
    if not luhn(re.sub(r"\D", "", drawn)):
        return drawn
    return drawn[:-1] + str((int(drawn[-1]) + 1) % 10)


def _iban_dummy(original: str, rng: random.Random) -> str:
    """Of a country that is none, and with check digits that none has."""
    rest = "".join(_drawn_letter(sign, rng) for sign in original[4:])
    return ("ZZ" if original[0].isupper() else "zz") + "00" + rest


_DRAWN: dict[str, Callable[[str, random.Random], str]] = {
    "email": _email_dummy,
    "phone": _digits_dummy("000"),
    "card": _card_dummy,
    "iban": _iban_dummy,
}


def redact_document(document: Document) -> dict[str, int]:
    """Redact title and blocks of a document in place.

    Returns:
        The number of finds by kind.
    """
    redactor = Redactor()
    document.title = redactor.text(document.title)
    document.blocks[:] = [redactor.fragment(block) for block in document.blocks]
    return dict(sorted(redactor.counts.items()))
