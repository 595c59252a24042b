"""How much a rendered page resembles the page that it was made from, in numbers.

Both pages are looked at as pictures, as the source may be a scan: ink, blocks of text, columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 400
"""Pixels of the longer side at which pages are compared."""
_DARKER = 40
"""Grey levels below the paper from which a pixel is ink."""
_GRID = 10
"""Pixels of a cell of the coarse grid of blocks."""
_GUTTER = 0.012
"""Least width of the white between columns, as a share of the page's width."""
_COLUMN = 0.1
"""Least width of a column, likewise."""
_CROSSED = 0.12
"""Share of the text's lines that may run across a gutter (headings, tables)."""


@dataclass(frozen=True)
class Looks:
    """One page."""

    ink: float
    """Share of dark pixels."""
    blocks: int
    """Areas of text or figures, separated by white."""
    columns: int


@dataclass(frozen=True)
class Likeness:
    """Two pages."""

    source: Looks
    render: Looks
    overlap: float
    """0..1: coarse cells with ink on both pages, over those with ink on either."""

    @property
    def sentence(self) -> str:
        """For people."""
        return (
            f"likeness: overlap {self.overlap:.2f}; columns {self.source.columns} in the source, "
            f"{self.render.columns} here; blocks {self.source.blocks}, {self.render.blocks}; "
            f"ink {self.source.ink:.1%}, {self.render.ink:.1%}"
        )


def likeness(source: Image.Image, render: Image.Image) -> Likeness:
    """Compare two pages; both are drawn at the size of the source."""
    scale = SIDE / max(source.size)
    size = (max(1, round(source.width * scale)), max(1, round(source.height * scale)))
    inks = [
        _ink(picture.convert("L").resize(size, Image.Resampling.BOX))
        for picture in (source, render)
    ]
    grids = [_cells(ink) for ink in inks]
    either = int((grids[0] | grids[1]).sum())
    overlap = int((grids[0] & grids[1]).sum()) / either if either else 1.0
    looks = [
        Looks(round(float(i.mean()), 4), _blocks(g), _columns(i))
        for i, g in zip(inks, grids, strict=True)
    ]
    return Likeness(looks[0], looks[1], round(overlap, 4))


def _ink(picture: Image.Image) -> np.ndarray:
    grey = np.asarray(picture, dtype=np.int16)
    paper = int(np.percentile(grey, 90))
    return grey < paper - _DARKER


def _cells(ink: np.ndarray) -> np.ndarray:
    """Which cells of the coarse grid have ink."""
    rows, columns = (-side % _GRID for side in ink.shape)
    padded = np.pad(ink, ((0, rows), (0, columns)))
    shape = (padded.shape[0] // _GRID, _GRID, padded.shape[1] // _GRID, _GRID)
    found: np.ndarray = padded.reshape(shape).sum(axis=(1, 3)) >= 2
    return found


def _blocks(cells: np.ndarray) -> int:
    """Connected areas of cells (4 neighbours)."""
    left = {(int(row), int(column)) for row, column in zip(*np.nonzero(cells), strict=True)}
    count = 0
    while left:
        count += 1
        edge = [left.pop()]
        while edge:
            row, column = edge.pop()
            for near in (
                (row - 1, column),
                (row + 1, column),
                (row, column - 1),
                (row, column + 1),
            ):
                if near in left:
                    left.remove(near)
                    edge.append(near)
    return count


def _columns(ink: np.ndarray) -> int:
    """Stretches of the width between whites that few lines cross."""
    lines = ink[ink.any(axis=1)]
    if not len(lines):
        return 0
    share = lines.mean(axis=0)
    inked = np.nonzero(share > _CROSSED * share.max())[0]
    width = ink.shape[1]
    gaps = np.nonzero(np.diff(inked) > max(2, _GUTTER * width))[0]
    starts = inked[np.concatenate([[0], gaps + 1])]
    ends = inked[np.concatenate([gaps, [len(inked) - 1]])]
    return max(1, int((ends - starts + 1 >= _COLUMN * width).sum()))
