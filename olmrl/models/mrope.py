"""M-RoPE positions of the Qwen2.5-VL family, in numpy (Qwen2-VL report, arXiv 2409.12191, 2.1).

Text advances all three axes together; an image spans (time, height, width) from where it stands,
and text goes on after its larger side. Shape letters: T tokens, I images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from olmrl.types import Int64Array


@dataclass(frozen=True, slots=True)
class VisionTokens:
    """How a model writes images into its token stream."""

    image_token_id: int
    """Placeholder that stands for one merged patch."""
    merge_size: int
    """Patches per side that the vision tower merges into one token."""

    def count(self, grid_thw: Int64Array) -> Int64Array:
        """Placeholders of each image, [I], from its patch grid [I, 3]."""
        patches: Int64Array = np.prod(np.asarray(grid_thw, np.int64), axis=1)
        return patches // self.merge_size**2

    def positions(self, token_ids: Int64Array, grid_thw: Int64Array) -> tuple[Int64Array, int]:
        """Positions of a sequence, and the position its continuation starts from.

        Args:
            token_ids: [T] ids with image placeholders expanded.
            grid_thw: [I, 3] patch grid of each image, in order of appearance.

        Returns:
            [3, T] positions (time, height, width), and the next position.

        Raises:
            ValueError: placeholders and grids do not match.
        """
        is_image = token_ids == self.image_token_id
        counts = self.count(grid_thw)
        if int(is_image.sum()) != int(counts.sum()):
            raise ValueError(
                f"{int(is_image.sum())} image placeholders for {int(counts.sum())} merged patches"
            )
        step = np.where(is_image, 0, 1)
        at = np.flatnonzero(is_image)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)[: len(counts)]
        spans = []
        for first, count, (time, height, width) in zip(at[starts], counts, grid_thw, strict=True):
            if not is_image[first : first + count].all():
                raise ValueError(f"the {count} placeholders of an image are not contiguous")
            rows, columns = int(height) // self.merge_size, int(width) // self.merge_size
            # the whole image advances text by its larger side; its last token carries that step
            step[first + count - 1] = max(rows, columns)
            spans.append((first, count, np.indices((int(time), rows, columns)).reshape(3, -1)))
        ends = np.cumsum(step)
        base = ends - step
        positions = np.broadcast_to(base, (3, len(token_ids))).astype(np.int64)
        for first, count, offsets in spans:
            positions[:, first : first + count] = base[first] + offsets
        return positions, int(ends[-1]) if len(ends) else 0


def text_positions(start: int, length: int) -> Int64Array:
    """[3, length] positions of text that starts at `start`."""
    return np.broadcast_to(np.arange(start, start + length, dtype=np.int64), (3, length))
