"""Finds e-mail addresses, phone numbers, card numbers and IBANs in plain text.

Where in doubt a number counts as a phone number: a masked figure costs nothing, a missed one is
somebody's. Checked where there is something to check: cards by Luhn, IBANs by their two digits.
Every pattern is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_AT = r" ?[\[({<] ?(?:at|@|\u00e4t) ?[\])}>] ?"
_DOT = r"(?: ?[\[({<] ?(?:dot|punkt|\.) ?[\])}>] ?|\.)"
_EMAIL = re.compile(
    r"(?<![\w.+-])(?:mailto:)?[\w!#$&'*+/=?^`{|}~-][\w.!#$&'*+/=?^`{|}~-]{0,63}(?:"
    rf"(?: ?@ ?|%40|{_AT})[\w-]{{1,63}}(?:{_DOT}[\w-]{{1,63}}){{0,8}}{_DOT}[^\W\d_]{{2,24}}"
    r"| at [\w-]{1,63}(?: dot [\w-]{1,63}){0,8} dot [^\W\d_]{2,24})(?![\w@-])",
    re.IGNORECASE,
)
_CARD = re.compile(r"(?<![\w.,-])[2-6]\d{2,18}(?:[ .-]\d{3,7}){0,5}(?![^\W_]|[.,-]\d)")
_IBAN = re.compile(
    r"(?<![^\W_])[a-z]{2}\d{2}(?:[ -]?[a-z0-9]{2,4}){2,8}(?:[ -]?[a-z0-9]{1,4})?(?![^\W_])",
    re.IGNORECASE,
)
_LABEL = (
    r"(?:tele?(?:fono?|fone?|phone|fax)?|t\u00e9l(?:\u00e9phone)?|phone|fax|mobile?|mobil|cell|handy"
    r"|call|fon|m\u00f3vil|celular|portable|hotline|whatsapp|\u0442\u0435\u043b(?:\u0435\u0444\u043e\u043d)?"
    r"|\u7535\u8bdd|\u624b\u673a|\u96fb\u8a71|\uc804\ud654|\u260e|\u260f|\u2706|\U0001f4de|\u0647\u0627\u062a\u0641)"
)
_JOIN = r"[ ./()-]{0,3}"
_PHONES = (
    # international: +49 (0)30 123456, 0049 30 123456
    (re.compile(rf"(?<![\w+])(?:tel:)?\+[1-9](?:{_JOIN}\d){{6,14}}(?!\d)"), 8, 15),
    (
        re.compile(
            rf"(?<![\w.,-])(?<!\d )00[ -]?[1-9]\d?\d?[ /(-]{{1,2}}\d(?:{_JOIN}\d){{5,12}}(?!\d)"
        ),
        9,
        17,
    ),
    (re.compile(r"(?<![\w.,-])00[1-9]\d{9,12}(?![\w.,]\d|\d)"), 12, 15),
    # North American, and with the area in brackets
    (
        re.compile(
            r"(?<![\w.,-])(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])\d{3}[ .-]\d{4}"
            r"(?![\w]|[.,-]\d)"
        ),
        10,
        11,
    ),
    (re.compile(r"(?<![\w.,-])\(0?\d{2,5}\) ?\d{2,5}[ -]\d{3,5}(?![\w]|[.,-]\d)"), 8, 13),
    # national, with the leading zero
    (
        re.compile(
            r"(?<![\w.,:/-])(?<!\d )\(?0[1-9]\d{0,4}\)?(?: ?[/-] ?| )\d{2,9}(?:[ .-]\d{2,5}){0,5}"
            r"(?![\w]|[.,:-]\d)"
        ),
        9,
        13,
    ),
    # written in one: 07700900123, and Chinese mobile numbers, which have no zero
    (re.compile(r"(?<![\w.,:/-])0[1-9]\d{8,10}(?![\w]|[.,:-]\d)"), 10, 12),
    (re.compile(r"(?<![\w.,:/-])1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?![\w]|[.,:-]\d)"), 11, 11),
    (re.compile(r"(?<![\w.,:/-])0[1-9](?:\.\d\d){4}(?![\w]|[.,:-]\d)"), 10, 10),
    # whatever follows a label
    (
        re.compile(
            rf"(?<![^\W_]){_LABEL}(?:[.: \u00a0]|\bno\b|number|nummer|n\u00ba){{0,4}}"
            rf"(?P<number>\+?\(?\d(?:{_JOIN}\d){{4,16}})(?!\d)",
            re.IGNORECASE,
        ),
        5,
        17,
    ),
)
"""Pattern, fewest and most digits."""
_DATE = re.compile(
    r"\d{1,2}([-/. ])\d{1,2}\1\d{4}(?: *- *\d{1,2}\1\d{1,2}\1\d{4})?|\d{4}([-/. ])\d\d\2\d\d"
)


class Find(NamedTuple):
    """Something personal in a text."""

    kind: str
    start: int
    end: int


def finds(view: str) -> list[Find]:
    """Finds in order, none over another."""
    taken = bytearray(len(view))
    found = []
    for search in (_emails, _ibans, _cards, _phones):
        for find in search(view):
            if not any(taken[find.start : find.end]):
                taken[find.start : find.end] = b"\1" * (find.end - find.start)
                found.append(find)
    return sorted(found, key=lambda find: find.start)


def _emails(view: str) -> Iterator[Find]:
    for match in _EMAIL.finditer(view):
        start = match.start() + len("mailto:") * match[0].lower().startswith("mailto:")
        yield Find("email", start, match.end())


def _ibans(view: str) -> Iterator[Find]:
    for match in _IBAN.finditer(view):
        ends = [m.start() for m in re.finditer(r"[ -]", match[0])] + [len(match[0])]
        for end in reversed(ends):
            if _is_iban(match[0][:end]):
                yield Find("iban", match.start(), match.start() + end)
                break


def _is_iban(text: str) -> bool:
    plain = re.sub(r"[ -]", "", text).upper()
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])) % 97 == 1


def _cards(view: str) -> Iterator[Find]:
    for match in _CARD.finditer(view):
        digits = re.sub(r"\D", "", match[0])
        if 13 <= len(digits) <= 19 and luhn(digits):
            yield Find("card", match.start(), match.end())


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of a card number."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


def _phones(view: str) -> Iterator[Find]:
    for pattern, least, most in _PHONES:
        for match in pattern.finditer(view):
            group = "number" if "number" in pattern.groupindex else 0
            text = match[group]
            count = sum(sign.isdigit() for sign in text)
            if least <= count <= most and not _DATE.fullmatch(text.strip()):
                start = match.start(group)
                start += len("tel:") * text.startswith("tel:")
                yield Find("phone", start, match.end(group))
