"""What mkdocs calls while it builds the site."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from pymdownx.slugs import slugify

sys.path.insert(0, str(Path(__file__).parent))

from reference import filled


def on_config(config: Any) -> None:
    """Anchors of headings in any script, as GitHub makes them."""
    config["mdx_configs"].setdefault("toc", {})["slugify"] = slugify(case="lower")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in what a page leaves to be generated, and give lists the empty line that they need.

    GitHub begins a list right below a line of text; Python-Markdown wants an empty line between.
    """
    return spaced(filled(markdown))


def spaced(markdown: str) -> str:
    """A page with an empty line ahead of every list, outside of code."""
    lines: list[str] = []
    fenced = False
    for line in markdown.split("\n"):
        item = re.match(r"(?:[-*+]|\d+\.) ", line)
        before = lines[-1] if lines else ""
        if item and not fenced and re.match(r"[^\s\-*+\d|#<]", before):
            lines.append("")
        fenced ^= line.startswith("```")
        lines.append(line)
    return "\n".join(lines)
