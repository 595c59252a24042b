"""How a synthetic page looks: paper, margins, columns, fonts and tables, drawn by seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

PAPERS = {"A4": (794, 1123), "letter": (816, 1056), "A5": (559, 794), "legal": (816, 1344)}
"""CSS pixels (96 per inch) of a page, upright."""

_SERIF = ("'Liberation Serif', 'Times New Roman'", "'DejaVu Serif'")
_SANS = ("'Liberation Sans', Arial", "'DejaVu Sans'", "'Liberation Sans Narrow', Arial")
_FALLBACK = "'Noto Sans CJK KR', 'Noto Sans CJK SC', 'Noto Sans CJK JP', 'Noto Sans Arabic'"
_TABLES = (
    "td,th{border:1px solid #444}",
    "tr{border-bottom:1px solid #999}th{border-bottom:2px solid #222}",
    "th{background:#e4e4e4}td,th{border:1px solid #bbb}",
    "table{border-top:2px solid #222;border-bottom:2px solid #222}th{border-bottom:1px solid #222}",
)


@dataclass(frozen=True)
class Look:
    """One way of setting a document."""

    width: int
    """CSS pixels of the paper."""
    height: int
    margin: int
    """CSS pixels on every side."""
    columns: int
    gap: int
    """CSS pixels between columns."""
    font_px: float
    line: float
    """Line height over font size."""
    font: str
    heading_font: str
    justified: bool
    table: str

    @property
    def column_width(self) -> int:
        """CSS pixels of one column of text."""
        room = self.width - 2 * self.margin - (self.columns - 1) * self.gap
        return room // self.columns

    @property
    def column_height(self) -> int:
        """CSS pixels of text between header and footer."""
        return self.height - 2 * self.margin - 2 * FURNITURE_PX


FURNITURE_PX = 34
"""Height of the header and of the footer."""


def draw_look(rng: random.Random) -> Look:
    """Draw a look: four in five on A4 or letter, three in ten with two columns."""
    paper = rng.choices(list(PAPERS), [40, 40, 10, 10])[0]
    width, height = PAPERS[paper]
    columns = 2 if paper != "A5" and rng.random() < 0.3 else 1
    font_px = rng.uniform(11.5, 14.0) if columns == 2 else rng.uniform(13.0, 17.0)
    body = rng.choice(_SERIF if rng.random() < 0.6 else _SANS)
    heading = body if rng.random() < 0.6 else rng.choice(_SANS)
    return Look(
        width=width,
        height=height,
        margin=rng.randint(48, 96) if paper != "A5" else rng.randint(36, 56),
        columns=columns,
        gap=rng.randint(20, 36),
        font_px=round(font_px, 1),
        line=round(rng.uniform(1.25, 1.55), 2),
        font=f"{body}, {_FALLBACK}, serif",
        heading_font=f"{heading}, {_FALLBACK}, sans-serif",
        justified=rng.random() < 0.4,
        table=rng.choice(_TABLES),
    )


def css(look: Look, *, right_to_left: bool = False, scale: float = 1.0) -> str:
    """The style sheet of a page.

    Args:
        look: What was drawn.
        right_to_left: Direction of the text.
        scale: Factor on font sizes, to make a page fit.
    """
    direction = "rtl" if right_to_left else "ltr"
    align = "justify" if look.justified else "start"
    return f"""
@page{{size:{look.width}px {look.height}px;margin:0}}
*{{box-sizing:border-box}}
html,body{{margin:0;padding:0;background:#fff;color:#111}}
body{{direction:{direction};font:{look.font_px * scale:.2f}px/{look.line} {look.font};
text-align:{align};overflow-wrap:anywhere}}
.sheet{{width:{look.width}px;height:{look.height}px;padding:{look.margin}px;overflow:hidden}}
header,footer{{height:{FURNITURE_PX}px;font-size:.8em;color:#333;display:flex;
justify-content:space-between;overflow:hidden;white-space:nowrap}}
footer{{align-items:flex-end}}
.text{{height:{look.column_height}px;columns:{look.columns};column-gap:{look.gap}px;column-fill:auto}}
.measure{{width:{look.column_width}px}}
p,ul,ol,pre,blockquote,table,.image,div.tex{{margin:0 0 .7em}}
h1,h2,h3,h4,h5,h6{{font-family:{look.heading_font};line-height:1.2;margin:.5em 0;text-align:start}}
h1{{font-size:1.7em}}h2{{font-size:1.4em}}h3{{font-size:1.2em}}h4,h5,h6{{font-size:1.05em}}
h1,h2,h3,h4,h5,h6{{break-after:avoid}}
ul,ol{{padding-inline-start:1.6em}}
pre{{font:0.85em/1.35 'Liberation Mono','DejaVu Sans Mono',monospace;white-space:pre-wrap;
background:#f4f4f4;padding:.5em;text-align:start}}
code{{font-family:'Liberation Mono','DejaVu Sans Mono',monospace;font-size:.9em}}
blockquote{{margin-inline:1.5em}}
table{{border-collapse:collapse;font-size:.92em;max-width:100%;text-align:start}}
td,th{{padding:.2em .5em;vertical-align:top}}
{look.table}
table,pre,.image,div.tex,tr{{break-inside:avoid}}
.image{{display:block;border:1px solid #777;background:#eee;min-height:6em}}
div.tex{{text-align:center}}
"""
