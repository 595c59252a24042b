"""What mkdocs calls while it builds the site."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pymdownx.slugs import slugify

sys.path.insert(0, str(Path(__file__).parent))

from reference import filled, spaced


def on_config(config: Any) -> None:
    """Anchors of headings in any script, as GitHub makes them."""
    config["mdx_configs"].setdefault("toc", {})["slugify"] = slugify(case="lower")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in what a page leaves to be generated."""
    return spaced(filled(markdown))
