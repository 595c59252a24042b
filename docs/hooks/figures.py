"""The pictures of the documentation: `python docs/hooks/figures.py` writes docs/figures/*.svg.

A test holds that the files are what this module draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "figures"
INK, SOFT, LINE = "#1f2933", "#5f6c7b", "#9aa5b1"
PROMPT, ENGINE, SCORE, LEARN = "#f2c14e", "#7fb7be", "#d3a588", "#8fa998"
COMPLETIONS = ("#4f7cac", "#9d6a89", "#6b9080")


def svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    """A picture on white ground, so that it can be read in dark pages too."""
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'font-family="Helvetica, Arial, sans-serif" role="img">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        )
    )


def rect(x: float, y: float, width: float, height: float, fill: str, radius: float = 5) -> str:
    """A filled box."""
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    return f'<rect {place} rx="{radius:g}" fill="{fill}"/>'


def text(
    x: float, y: float, words: str, size: int = 14, fill: str = INK, anchor: str = "middle"
) -> str:
    """One line of text; `y` is its base line."""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def box(x: float, y: float, width: float, fill: str, name: str, *notes: str) -> list[str]:
    """A part of the system: its name and what it does."""
    height = 34 + 17 * len(notes)
    lines = [text(x + width / 2, y + 44 + 17 * i, note, 12, INK) for i, note in enumerate(notes)]
    return [rect(x, y, width, height, fill), text(x + width / 2, y + 23, name, 15), *lines]


def arrow(*points: tuple[float, float], dashed: bool = False) -> str:
    """A line with a head at its last point, along straight pieces."""
    (x0, y0), (x1, y1) = points[-2:]
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
    dx, dy = (x1 - x0) / length * 8, (y1 - y0) / length * 8
    corners = (
        (x1, y1),
        (x1 - dx - dy / 2, y1 - dy + dx / 2),
        (x1 - dx + dy / 2, y1 - dy - dx / 2),
    )
    head = " ".join(f"{x:g},{y:g}" for x, y in corners)
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<polyline points="{path}" fill="none" stroke="{SOFT}" stroke-width="1.6"{dash}/>'
        f'<polygon points="{head}" fill="{SOFT}"/>'
    )


def one_page() -> str:
    """A page's way from the disk into the weights."""
    parts = [
        *box(
            20,
            24,
            200,
            PROMPT,
            "Ray Data",
            "reads and renders a page",
            "cuts it into patches, once",
        ),
        *box(
            270, 24, 200, ENGINE, "Engines (vLLM)", "one prefill per page", "G completions, seeded"
        ),
        *box(
            520, 24, 200, SCORE, "Scorers", "unit tests and other rewards", "while others generate"
        ),
        *box(
            520,
            164,
            200,
            SCORE,
            "Buffer and ledger",
            "whole groups only",
            "no signal: dropped, replaced",
        ),
        *box(
            270,
            164,
            200,
            LEARN,
            "Learner (FSDP2)",
            "page and prompt once a group",
            "loss, optimizer step",
        ),
        *box(
            20,
            164,
            200,
            LEARN,
            "Weight sync",
            "version (incarnation, step)",
            "checked against the learner",
        ),
        arrow((220, 58), (268, 58)),
        arrow((470, 58), (518, 58)),
        arrow((620, 92), (620, 162)),
        arrow((520, 198), (472, 198)),
        arrow((270, 198), (222, 198)),
        arrow((120, 164), (120, 130), (345, 130), (345, 94)),
        text(232, 123, "new weights, in flight", 12, SOFT),
        text(630, 132, "Rollouts", 12, SOFT, "start"),
    ]
    return svg(740, 256, "One page's way through a GRPO run", parts)


def sees(segments: Sequence[int], prefixes: Sequence[int], query: int, key: int) -> bool:
    """Whether a token of a packed row sees another: its segment and its prefix, not the future."""
    return key <= query and segments[key] in (segments[query], prefixes[query])


PROMPT_TOKENS, COMPLETION_TOKENS = 6, (4, 3, 5)


def row() -> tuple[list[int], list[int]]:
    """Segment and prefix of each token of the drawn row."""
    segments, prefixes = [0] * PROMPT_TOKENS, [-1] * PROMPT_TOKENS
    for number, length in enumerate(COMPLETION_TOKENS, start=1):
        segments += [number] * length
        prefixes += [0] * length
    return segments, prefixes


def packed_row() -> str:
    """A group as one row, what each token sees there, and the rows that it replaces."""
    segments, prefixes = row()
    colours = (PROMPT, *COMPLETIONS)
    size, left, top = 17, 60, 92
    total = len(segments)
    parts = [text(left, 24, "page-once: one row for the group", 14, anchor="start")]
    parts += [
        rect(left + i * size, 34, size - 2, 22, colours[segment], 2)
        for i, segment in enumerate(segments)
    ]
    parts.append(text(left, 78, "key: what is seen", 12, SOFT, "start"))
    parts.append(
        f'<text transform="translate({left - 22} {top + 8 * size}) rotate(-90)" font-size="12" '
        f'fill="{SOFT}" text-anchor="middle">query: who looks</text>'
    )
    for query in range(total):
        parts.append(rect(left - 12, top + query * size, 8, size - 2, colours[segments[query]], 2))
        for key in range(total):
            seen = sees(segments, prefixes, query, key)
            fill = colours[segments[key]] if seen else "#eef1f4"
            parts.append(rect(left + key * size, top + query * size, size - 2, size - 2, fill, 2))
    x = left + total * size + 50
    parts.append(text(x, 24, "without it: a row for each completion", 14, anchor="start"))
    for number, length in enumerate(COMPLETION_TOKENS):
        y = 34 + number * 30
        cells = [PROMPT] * PROMPT_TOKENS + [COMPLETIONS[number]] * length
        parts += [rect(x + i * size, y, size - 2, 22, fill, 2) for i, fill in enumerate(cells)]
    dense = sum(PROMPT_TOKENS + length for length in COMPLETION_TOKENS)
    notes = (
        f"{dense} tokens and {len(COMPLETION_TOKENS)} images there,",
        f"{total} tokens and 1 image here.",
        "",
        "Real pages: P = 2000 prompt tokens,",
        "R = 1000 per completion, G = 28:",
        f"{28 * 3000:,} tokens there, {2000 + 28 * 1000:,} here.",
    )
    parts += [text(x, 152 + 20 * i, note, 13, INK, "start") for i, note in enumerate(notes)]
    for i, (fill, name) in enumerate(
        [(PROMPT, "page and prompt"), *zip(COMPLETIONS, ("completion 1", "2", "3"), strict=True)]
    ):
        parts.append(rect(x, 282 + 22 * i, 15, 15, fill, 2))
        parts.append(text(x + 24, 294 + 22 * i, name, 13, INK, "start"))
    return svg(740, top + total * size + 20, "A prompt group packed into one row", parts)


def staleness() -> str:
    """Who works when, synchronously and one step ahead."""
    parts: list[str] = []
    unit = 78
    for top, title, gap in (
        (34, "max_staleness 0: engines and learner take turns", 1.0),
        (150, "max_staleness 1: engines run one step ahead", 0.0),
    ):
        parts.append(text(20, top, title, 14, anchor="start"))
        parts.append(text(20, top + 32, "engines", 12, SOFT, "start"))
        parts.append(text(20, top + 64, "learner", 12, SOFT, "start"))
        for step in range(4 if gap else 7):
            start = 90 + step * unit * (1 + gap)
            parts.append(rect(start, top + 14, unit - 3, 26, ENGINE))
            parts.append(text(start + unit / 2, top + 32, f"batch {step + 1}", 12))
            if step < (4 if gap else 6):
                parts.append(rect(start + unit, top + 46, unit - 3, 26, LEARN))
                parts.append(text(start + unit * 1.5, top + 64, f"step {step + 1}", 12))
    return svg(740, 240, "Synchronous and asynchronous steps", parts)


def commit() -> str:
    """The life of a group in the ledger."""
    states = ("issued", "ready", "leased", "committed")
    notes = ("engines sample", "all G scored", "learner trains", "with the step")
    parts: list[str] = []
    for i, (state, note) in enumerate(zip(states, notes, strict=True)):
        x = 20 + i * 186
        parts += box(x, 30, 140, LEARN if state == "committed" else ENGINE, state, note)
        if i < 3:
            parts.append(arrow((x + 140, 55), (x + 184, 55)))
        if i < 2:
            parts.append(arrow((x + 70, 81), (x + 70, 126)))
    parts += box(20, 128, 326, SCORE, "dropped", "with a reason: no signal, failed, too old")
    parts.append(arrow((462, 81), (462, 110), (316, 110), (316, 83), dashed=True))
    parts.append(
        text(474, 114, "learner restarts: back to the checkpoint's ledger", 12, SOFT, "start")
    )
    return svg(740, 196, "The life of a group in the ledger", parts)


FIGURES = {
    "one_page": one_page,
    "packed_row": packed_row,
    "staleness": staleness,
    "commit": commit,
}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, draw in FIGURES.items():
        (FOLDER / f"{name}.svg").write_text(draw(), "utf-8")
