"""Kinds of variants of a page, and which pages get which."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

SET = ("density", "typos")
"""Variants that are set anew from their HTML (`set_anew`)."""
PICTURED = ("scan", "rotate", "dpi")
"""Variants of the finished page."""


def parse_variants(text: str, kinds: Sequence[str] = PICTURED + SET) -> dict[str, float]:
    """Read `scan,rotate=0.1`: kinds, and the share of pages that get each (default all).

    Args:
        text: Of the command line.
        kinds: Those that are allowed.

    Raises:
        ValueError: an unknown kind, or a share outside 0..1.
    """
    shares: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        kind, _, share = part.partition("=")
        if kind not in kinds:
            allowed = ", ".join(sorted(kinds))
            raise ValueError(f"{kind!r} is unknown here, allowed: {allowed}")
        try:
            shares[kind] = float(share or 1)
        except ValueError:
            raise ValueError(f"{part!r}: expected KIND=SHARE, e.g. scan=0.5") from None
        if not 0 < shares[kind] <= 1:
            raise ValueError(f"{part!r}: the share must be in (0, 1]")
    return dict(sorted(shares.items()))


def gets(shares: Mapping[str, float], kind: str, name: str, seed: int) -> bool:
    """Whether a page is one of those that get a variant of this kind."""
    return random.Random(f"{seed}/{kind}/{name}").random() < shares.get(kind, 0.0)
