"""How a synthetic page looks: paper, margins, columns, fonts and tables, drawn by seed."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

PAPERS = {
    **{"A4": (794, 1123), "letter": (816, 1056), "A5": (559, 794), "legal": (816, 1344)},
    "B5": (665, 945),
}
"""CSS pixels (96 per inch) of a page, upright."""
_SMALL = ("A5", "B5")

_SERIF = (
    *("Liberation Serif", "DejaVu Serif", "Noto Serif", "TeX Gyre Termes", "TeX Gyre Pagella"),
    *("Caladea", "Gentium", "EB Garamond", "Linux Libertine O", "Crimson Text"),
)
_SANS = (
    *("Liberation Sans", "DejaVu Sans", "Liberation Sans Narrow", "Noto Sans", "TeX Gyre Heros"),
    *("Carlito", "Lato", "Open Sans", "Roboto", "Source Sans 3"),
)
_OF_LANGUAGE = {
    "ko": (("Noto Serif CJK KR", "NanumMyeongjo"), ("Noto Sans CJK KR", "NanumGothic")),
    "zh": (("Noto Serif CJK SC",), ("Noto Sans CJK SC", "WenQuanYi Zen Hei")),
    "ja": (("Noto Serif CJK JP", "IPAMincho"), ("Noto Sans CJK JP", "IPAGothic")),
    "he": (("Noto Serif Hebrew", "David CLM"), ("Noto Sans Hebrew", "DejaVu Sans")),
    **dict.fromkeys(
        ("ar", "fa", "ur", "ps", "sd", "ug"),
        (("Noto Naskh Arabic", "Amiri"), ("Noto Sans Arabic", "DejaVu Sans", "Noto Kufi Arabic")),
    ),
}
"""Serif and sans of languages that the others do not cover. All of these fonts are free."""
FAMILIES = frozenset(
    family
    for serif, sans in ((_SERIF, _SANS), *_OF_LANGUAGE.values())
    for family in (*serif, *sans)
)
"""What looks are drawn from, where it is installed."""
_MONO = "'Liberation Mono','DejaVu Sans Mono','Noto Sans Mono CJK KR',monospace"
_TABLES = (
    "td,th{border:1px solid #444}",
    "tr{border-bottom:1px solid #999}th{border-bottom:2px solid #222}",
    "th{background:#e4e4e4}td,th{border:1px solid #bbb}",
    "table{border-top:2px solid #222;border-bottom:2px solid #222}th{border-bottom:1px solid #222}",
)


_INDENTED = "p{text-indent:1.5em;margin-bottom:0}h1+p,h2+p,h3+p,li p{text-indent:0}"
_RULED = (
    "header{border-bottom:1px solid #555;height:24px;margin-bottom:10px}"
    "footer{border-top:1px solid #555;height:24px;margin-top:10px}"
)
"""Together as high as `FURNITURE_PX`."""


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
    indented: bool
    """Paragraphs begin with an indent and follow without a gap, as in books."""
    ink: str
    """Colour of the text."""
    ruled: bool
    """A line below the header and above the footer."""
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


def draw_look(rng: random.Random, language: str, families: Collection[str]) -> Look:
    """Draw a look: three in four on A4 or letter, three in ten with two columns or three.

    Args:
        rng: Where all choices come from.
        language: Two letters, of the document.
        families: The installed ones of `FAMILIES`.
    """
    paper = rng.choices(list(PAPERS), [38, 38, 8, 8, 8])[0]
    width, height = PAPERS[paper]
    columns = 1 if paper in _SMALL else rng.choices((1, 2, 3), [70, 26, 4])[0]
    sizes = {1: (13.0, 17.0), 2: (11.5, 14.0), 3: (11.0, 12.5)}[columns]
    serif, sans = (
        [family for family in known if family in families]
        for known in _OF_LANGUAGE.get(language, (_SERIF, _SANS))
    )
    with_serifs = bool(serif) and (rng.random() < 0.6 or not sans)
    body = rng.choice(serif if with_serifs else sans or [""])
    heading = body if rng.random() < 0.6 else rng.choice(sans or [""])
    return Look(
        width=width,
        height=height,
        margin=rng.randint(36, 56) if paper in _SMALL or columns == 3 else rng.randint(48, 96),
        columns=columns,
        gap=rng.randint(20, 36 if columns < 3 else 26),
        font_px=round(rng.uniform(*sizes), 1),
        line=round(rng.uniform(1.25, 1.55), 2),
        font=_stack(body, "serif" if with_serifs else "sans-serif"),
        heading_font=_stack(heading, "sans-serif"),
        justified=rng.random() < 0.4,
        indented=rng.random() < 0.25,
        ink=rng.choice(("#000", "#111", "#111", "#222", "#1a2340")),
        ruled=rng.random() < 0.3,
        table=rng.choice(_TABLES),
    )


def _stack(family: str, generic: str) -> str:
    return f"'{family}', {generic}" if family else generic


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
html,body{{margin:0;padding:0;background:#fff;color:{look.ink}}}
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
pre{{font:0.85em/1.35 {_MONO};white-space:pre-wrap;
background:#f4f4f4;padding:.5em;text-align:start}}
code{{font-family:{_MONO};font-size:.9em}}
blockquote{{margin-inline:1.5em}}
table{{border-collapse:collapse;font-size:.92em;max-width:100%;text-align:start}}
td,th{{padding:.2em .5em;vertical-align:top}}
{look.table}
table,pre,.image,div.tex,tr{{break-inside:avoid}}
{_INDENTED if look.indented else ""}
{_RULED if look.ruled else ""}
.image{{display:block;border:1px solid #777;background:#eee;min-height:6em}}
div.tex{{text-align:center}}
"""
