"""Seeded damage to PDFs: to bytes, to objects, and inside compressed streams."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Sequence

_NUMBER = re.compile(rb"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])")
_NAME = re.compile(rb"/[A-Za-z][A-Za-z0-9]*")
_REFERENCE = re.compile(rb"\b\d+ 0 R\b")
_STREAM = re.compile(rb"stream\r?\n(.*?)endstream", re.DOTALL)
_LENGTH = re.compile(rb"/Length \d+")

_ODD_NUMBERS = (b"0", b"-1", b"1", b"65536", b"2147483647", b"-2147483648", b"4294967296")
_ODD_NUMBERS += (b"1e308", b"0.00000001", b"99999999999999999999", b"-0.5", b"nan")
_ODD_NAMES = (b"/Kids", b"/Parent", b"/Contents", b"/Resources", b"/Length", b"/Filter", b"/Type")
_ODD_NAMES += (b"/FlateDecode", b"/LZWDecode", b"/ASCII85Decode", b"/DCTDecode", b"/JBIG2Decode")
_ODD_NAMES += (b"/CCITTFaxDecode", b"/JPXDecode", b"/ObjStm", b"/XRef", b"/MediaBox", b"/Rotate")
_ODD_NAMES += (
    b"/Font",
    b"/Subtype",
    b"/Type3",
    b"/Pattern",
    b"/Separation",
    b"/Widget",
    b"/Fields",
)
_ODD_VALUES = (b"null", b"true", b"[]", b"<<>>", b"()", b"<>", b"[" * 400 + b"]" * 400)
_ODD_VALUES += (b"<<" + b"/A" * 200, b"(" * 300, b"<" + b"F" * 999, b"% ", b"endobj", b"endstream")
_OPERATORS = (
    b" q" * 600,
    b" Q Q ",
    b" BT ",
    b" ET ",
    b" BI /W 9 /H 9 ID xx EI ",
    b" 1e9 0 0 1 0 0 cm",
)
_OPERATORS += (b" /F1 99999 Tf", b" [(a) 1e9 (b)] TJ", b" 0 0 0 0 re W n", b" /Fm0 Do", b" /X Do")

Mutate = Callable[[random.Random, bytes, Sequence[bytes]], bytes]


def mutant(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A damaged copy of a PDF.

    Args:
        rng: the only source of chance.
        data: the PDF.
        others: PDFs that parts are taken from.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        data = rng.choice(_MUTATORS)(rng, data, others)
    return data


def _span(rng: random.Random, data: bytes, most: int) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.randint(1, most))


def _flip(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 40)) if data else 0):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _zero(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data, rng.choice((16, 256, 4096)))
    return data[:start] + bytes(end - start) + data[end:]


def _cut_out(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data, rng.choice((4, 64, 2048)))
    return data[:start] + data[end:]


def _double(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data, rng.choice((16, 512)))
    return data[:end] + data[start:end] * rng.choice((1, 2, 50)) + data[end:]


def _truncate(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _splice(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    start, end = _span(rng, other, rng.choice((64, 1024, 8192)))
    place = rng.randrange(len(data) + 1)
    return data[:place] + other[start:end] + data[place + rng.choice((0, end - start)) :]


def _substitute(pattern: re.Pattern[bytes], choices: Sequence[bytes]) -> Mutate:
    def mutate(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
        found = list(pattern.finditer(data))
        chosen = rng.sample(found, min(len(found), rng.choice((1, 1, 2, 5))))
        for match in sorted(chosen, key=lambda m: -m.start()):
            data = data[: match.start()] + rng.choice(choices) + data[match.end() :]
        return data

    return mutate


def _swap_references(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    found = list(_REFERENCE.finditer(data))
    if len(found) < 2:
        return data
    one, other = sorted(rng.sample(found, 2), key=lambda m: m.start())
    # "2 0 R" in place of "3 0 R": circles in page trees, fonts that are pages
    return data[: one.start()] + other[0] + data[one.end() :]


def _inside(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Damage what a compressed stream holds, and compress it again."""
    found = list(_STREAM.finditer(data))
    if not found:
        return data
    chosen = rng.choice(found)
    content = _unpacked(chosen[1])
    if content is None:
        return data
    for _ in range(rng.choice((1, 2, 5))):
        content = rng.choice(_CONTENT_MUTATORS)(rng, content, others)
    packed = zlib.compress(content)
    head = data[: chosen.start(1)]
    lengths = list(_LENGTH.finditer(head))
    if lengths and rng.random() < 0.8:
        last = lengths[-1]
        head = head[: last.start()] + b"/Length %d" % len(packed) + head[last.end() :]
    return head + packed + b"\n" + data[chosen.end(1) :]


def _unpacked(data: bytes) -> bytes | None:
    try:
        return zlib.decompressobj().decompress(data, 1 << 20)
    except zlib.error:
        return None


def _operator(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice(_OPERATORS) + data[place:]


def _bomb(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A stream that unpacks to a thousand times its size."""
    found = list(_STREAM.finditer(data))
    if not found:
        return data
    chosen = rng.choice(found)
    unit = rng.choice((b"\0", b"0 0 m 9 9 l S ", b"q ", b"(a) Tj ", b"[", b"<<"))
    packed = zlib.compress(unit * (rng.choice((200_000, 2_000_000)) // len(unit)))
    return data[: chosen.start(1)] + packed + b"\n" + data[chosen.end(1) :]


_numbers = _substitute(_NUMBER, _ODD_NUMBERS)
_names = _substitute(_NAME, _ODD_NAMES)
_values = _substitute(re.compile(rb"\d+ 0 R|\([^()]{0,80}\)|\[[^\[\]]{0,80}\]"), _ODD_VALUES)
_CONTENT_MUTATORS: tuple[Mutate, ...] = (_flip, _cut_out, _double, _splice, _operator, _numbers)
_MUTATORS: tuple[Mutate, ...] = (
    *(_flip, _zero, _cut_out, _double, _truncate, _splice),
    *(_numbers, _numbers, _names, _names, _values, _swap_references, _swap_references),
    *(_inside, _inside, _inside, _operator, _bomb),
)
