"""Blocks of a document to pages: how they are cut, and the HTML of each, to show and to read."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lxml.html import fragment_fromstring

from olmrl.markup.katex_engine import render_formula
from olmrl.synth.web.blocks import serialise
from olmrl.synth.web.document import Document, text_of
from olmrl.synth.web.style import Look, css

_FULL = 0.97
"""Share of a column that is filled; fonts differ a little between screen and print."""
LEAST_CHARACTERS = 200
"""Text that a page must have to be worth reading."""
_SPLIT_CHARS = 600
_HEADING = re.compile(r"<h[1-6]>")

Height = tuple[float, float, float, float]
"""Height, margin above, margin below, overflow in width (`Browser.heights`)."""


@dataclass(frozen=True)
class WebPage:
    """One page of a document."""

    number: int
    """As printed in its footer, from 1."""
    blocks: tuple[str, ...]


def pieces(blocks: Sequence[str]) -> Iterator[str]:
    """Blocks, long lists and listings cut into smaller ones of their kind."""
    for block in blocks:
        element = fragment_fromstring(block)
        if len(block) > _SPLIT_CHARS and element.tag in ("ul", "ol"):
            for item in element.iterchildren("li"):
                start = ""
                if element.tag == "ol":
                    start = f' start="{element.index(item) + 1}"'
                yield f"<{element.tag}{start}>{serialise(item)}</{element.tag}>"
        elif element.tag == "pre" and block.count("\n") > 20:
            lines = element.text_content().split("\n")
            for at in range(0, len(lines), 16):
                text = html.escape("\n".join(lines[at : at + 16]), quote=False)
                if text.strip():
                    yield f"<pre>{text}</pre>"
        else:
            yield block


def fill(
    blocks: Sequence[str], heights: Sequence[Height], look: Look, leave: Callable[[str], None]
) -> Iterator[WebPage]:
    """Cut a document into pages, column by column, without breaking a block.

    A block that is higher than a column, or wider, is left out and counted. A heading never stands
    at the foot of a column.
    """
    room = look.column_height * _FULL
    columns: list[list[str]] = [[]]
    used, below = 0.0, 0.0
    for block, (height, above, under, wider) in zip(blocks, heights, strict=True):
        if height > room or wider > 1:
            leave("block larger than a column")
            continue
        needed = height + max(below, above if columns[-1] else 0.0)
        if used + needed > room:
            carried = _headings_at_end(columns[-1])
            columns[-1] = columns[-1][: len(columns[-1]) - len(carried)]
            columns.append(carried)
            used, needed = 60.0 * len(carried), height
        columns[-1].append(block)
        used, below = used + needed, under
    for number, start in enumerate(range(0, len(columns), look.columns), start=1):
        shown = [block for column in columns[start : start + look.columns] for block in column]
        if sum(len(text_of(block)) for block in shown) >= LEAST_CHARACTERS:
            yield WebPage(number, tuple(shown))


def _headings_at_end(column: Sequence[str]) -> list[str]:
    at = len(column)
    while at > 0 and _HEADING.match(column[at - 1]):
        at -= 1
    return list(column[at:]) if at > 0 else []


def measuring_html(document: Document, blocks: Sequence[str], look: Look) -> str:
    """All blocks of a document in one column, to be measured."""
    shown = "".join(displayed(block)[0] for block in blocks)
    style = css(look, right_to_left=document.right_to_left)
    return _whole(document, style, f'<div class="measure">{shown}</div>')


def shown_html(document: Document, page: WebPage, look: Look, scale: float = 1.0) -> str:
    """A page as the browser sets it."""
    shown = "".join(displayed(block)[0] for block in page.blocks)
    head, foot = furniture(document, page)
    style = css(look, right_to_left=document.right_to_left, scale=scale)
    sheet = f'{head}<div class="text">{shown}</div>{foot}'
    return _whole(document, style, f'<div class="sheet">{sheet}</div>')


def truth_html(document: Document, page: WebPage) -> str:
    """The same page for `proof.html_truth`: formulas between delimiters, nothing of the looks."""
    head, foot = furniture(document, page)
    read = "".join(readable(block) for block in page.blocks)
    return _whole(document, "", f"{head}{read}{foot}")


def furniture(document: Document, page: WebPage) -> tuple[str, str]:
    """Running header and footer."""
    title = html.escape(document.title[:70].strip(), quote=False)
    head = f"<header><span>{title}</span></header>" if title else "<header></header>"
    number = f'<span class="page-number">{page.number}</span>'
    return head, f"<footer><span></span>{number}</footer>"


def _whole(document: Document, style: str, body: str) -> str:
    sheet = f"<style>{style}</style>" if style else ""
    return (
        f'<!DOCTYPE html><html lang="{document.language}"><head><meta charset="utf-8">'
        f"{sheet}</head><body>{body}</body></html>"
    )


_TEX = re.compile(r'<(span|div) class="tex">(.*?)</\1>', re.DOTALL)


def displayed(block: str) -> tuple[str, list[str]]:
    """A block with its formulas as MathML, and those that KaTeX cannot render."""
    failed: list[str] = []

    def replace(match: re.Match[str]) -> str:
        tex = html.unescape(match[2])
        answer = render_formula(tex, "katex")
        if "error" in answer:
            failed.append(tex)
            return ""
        how = "block" if match[1] == "div" else "inline"
        return (
            f'<{match[1]} class="tex"><math display="{how}">{answer["mathml"]}</math></{match[1]}>'
        )

    return _TEX.sub(replace, block), failed


def readable(block: str) -> str:
    """A block with its formulas between delimiters."""

    def replace(match: re.Match[str]) -> str:
        left, right = ("\\[", "\\]") if match[1] == "div" else ("\\(", "\\)")
        return f"<{match[1]}>{left}{match[2]}{right}</{match[1]}>"

    return _TEX.sub(replace, block)
