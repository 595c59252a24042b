"""Segments of a packed row (see `PackedBatch`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from olmrl.types import Int32Array, Int64Array


@dataclass(frozen=True, slots=True)
class Span:
    """One segment in the packed row, with the prefix that it sees."""

    start: int
    length: int
    prefix_start: int = 0
    prefix_length: int = 0

    @property
    def keys(self) -> int:
        """Tokens that its last token sees."""
        return self.prefix_length + self.length

    def key_index(self) -> np.ndarray:
        """[K] positions of prefix and segment in the row."""
        return np.concatenate(
            [
                np.arange(self.prefix_start, self.prefix_start + self.prefix_length),
                np.arange(self.start, self.start + self.length),
            ]
        )


def padded_positions(groups: Sequence[Sequence[Span]]) -> Int64Array:
    """[T] where each token of a row stands when its groups of spans follow one another.

    The spans of a group are padded on the right to the longest of them.
    """
    positions = np.empty(sum(span.length for group in groups for span in group), np.int64)
    offset = 0
    for group in groups:
        longest = max(span.length for span in group)
        for span in group:
            positions[span.start : span.start + span.length] = offset + np.arange(span.length)
            offset += longest
    return positions


def find_spans(segment_ids: Int32Array, prefix_ids: Int32Array) -> list[Span]:
    """The segments of a packed row, in order.

    Args:
        segment_ids: [T] id per token; each id is one run of tokens.
        prefix_ids: [T] id of the segment that the token's segment also sees, or -1.

    Raises:
        ValueError: a segment is split, or its prefix is missing, later, or has a prefix itself.
    """
    if len(segment_ids) == 0:
        raise ValueError("packed batch: it has no tokens")
    starts = np.flatnonzero(np.r_[True, np.diff(segment_ids) != 0])
    ends = np.r_[starts[1:], len(segment_ids)]
    found: dict[int, Span] = {}
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        segment, prefix = int(segment_ids[start]), int(prefix_ids[start])
        if segment in found:
            raise ValueError(f"packed batch: segment {segment} is not one run of tokens")
        if (prefix_ids[start:end] != prefix).any():
            raise ValueError(f"packed batch: segment {segment} has more than one prefix")
        if prefix < 0:
            found[segment] = Span(start, end - start)
            continue
        before = found.get(prefix)
        if before is None or before.prefix_length:
            raise ValueError(
                f"packed batch: segment {segment} has prefix {prefix}, "
                "which must be an earlier segment without a prefix of its own"
            )
        found[segment] = Span(start, end - start, before.start, before.length)
    return list(found.values())
