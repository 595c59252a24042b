"""Code blocks and inline code of markdown."""

from __future__ import annotations

import re

_MARKS = re.compile(r"^[ \t>]{0,20}(`{3,}|~{3,})([^`\n]*)$|`+|^[ \t>]*$", re.MULTILINE)


def code_ends(text: str) -> dict[int, int]:
    """Where code that begins at a place ends: a fenced block, or a span in a paragraph.

    The ends of spans hold for whoever reads from left to right and skips each span. A fenced block
    is there twice, with and without what stands before its marks on their line.
    """
    ends: dict[int, int] = {}
    opened: dict[int, int] = {}
    fence: re.Match[str] | None = None
    for found in _MARKS.finditer(text):
        marks = found[1]
        if fence is not None:
            if marks and marks.startswith(fence[1]) and not found[2].strip():
                ends[fence.start()] = ends[fence.start(1)] = found.end()
                fence = None
        elif marks:
            fence = found
            ends[fence.start()] = ends[fence.start(1)] = len(text)
            opened = {}
        elif found[0].startswith("`"):
            size = len(found[0])
            if size in opened:
                ends[opened[size]] = found.end()
            opened[size] = found.start()
        else:
            opened = {}
    return ends
