"""A sheet of pages to judge in any browser: a static page; keys accept or reject, marks are saved.

    OUT/index.html    what is known of each page; nothing is loaded but the pictures
    OUT/pictures/     source page and render

A person judges pages, or each of their tests. The marks are those of `review_marks`: the button
saves marks.jsonl, which `mix filter --marks` and `mix review-tests --marks` take. Everything that
comes from a page is escaped, and the policy of the page admits no script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2

from olmrl import storage
from olmrl.mix.review_marks import Mark

_TEMPLATES = Path(__file__).parent / "templates"
_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp"}
_HIDDEN = ("pdf", "page", "id", "type", "max_diffs", "case_sensitive", "checked", "url")


@dataclass(frozen=True)
class SheetPage:
    """What is known of one page; what is missing is left out of the sheet."""

    name: str
    """Id of the page, under which it is marked: that of its page pair."""
    source_picture: bytes | None = None
    """The real page that it was made from, as JPEG, PNG or WebP."""
    render: bytes | None = None
    """The page as a model sees it, as JPEG, PNG or WebP."""
    truth: str | None = None
    """Markdown."""
    tests: tuple[Mapping[str, Any], ...] = ()
    """Rows of a bench file."""
    test_files: tuple[str, ...] = ()
    """Bench file of each test; needed where tests are judged."""
    failed_checks: tuple[str, ...] = ()
    """What the page or a test that was dropped did not satisfy, a sentence each."""
    notes: tuple[str, ...] = ()
    """What else is worth knowing of it, a sentence each."""
    reader_verdict: str | None = None
    """What a second reader made of the page, in a sentence."""
    cost: float | None = None
    """US dollars."""


def write_sheet(
    pages: Iterable[SheetPage],
    out: Path,
    heading: str,
    judged: Literal["pages", "tests"] = "pages",
    marks: Mapping[str, Mark] | None = None,
) -> None:
    """Write a sheet; the pictures are written as the pages come, and index.html last.

    Args:
        pages: What to show, in order.
        out: Folder to write.
        heading: What these pages are, in a few words.
        judged: What a mark is about.
        marks: Those that the sheet opens with, by id.

    Raises:
        ValueError: a picture is neither JPEG nor PNG nor WebP.
    """
    cards = [_card(number, page, out, judged) for number, page in enumerate(pages, 1)]
    ids = [name for card in cards for name in card["ids"]]
    given = [{"id": name, **mark._asdict()} for name, mark in (marks or {}).items()]
    script, style = ((_TEMPLATES / f"sheet.{kind}").read_text("utf-8") for kind in ("js", "css"))
    text = _ENVIRONMENT.get_template("sheet.html").render(
        heading=heading,
        judged=judged,
        cards=cards,
        # JSON, not attributes: HTML turns some characters of an id into others
        data=json.dumps({"ids": ids, "marks": given}).replace("<", "\\u003c"),
        script=script,
        style=style,
        policy=content_policy(script, style),
    )
    storage.write_html(out / "index.html", text)


def mark_id(file: str, test_id: str) -> str:
    """The id under which a test is marked; an id alone is unique in its file only."""
    return f"{file}:{test_id}"


def _card(number: int, page: SheetPage, out: Path, judged: str) -> dict[str, Any]:
    pictures = [
        (caption, _write_picture(data, out, f"{number:04d}-{kind}"))
        for kind, caption, data in (
            ("source", "source page", page.source_picture),
            ("render", "page", page.render),
        )
        if data is not None
    ]
    marked = zip(page.test_files, page.tests, strict=True) if judged == "tests" else ()
    ids = [mark_id(file, str(test["id"])) for file, test in marked]
    return {
        "page": page,
        "pictures": pictures,
        "tests": [sentence(test) for test in page.tests],
        "cost": None if page.cost is None else f"${page.cost:.4f}",
        "ids": ids if judged == "tests" else [page.name],
    }


def _write_picture(data: bytes, out: Path, name: str) -> str:
    """The picture's address in the sheet; its name owes nothing to the page's."""
    suffix = next((s for start, s in _SUFFIXES.items() if data.startswith(start)), None)
    if suffix is None:
        raise ValueError(f"picture {name}: neither JPEG nor PNG nor WebP")
    storage.write_bytes(out / "pictures" / f"{name}{suffix}", data)
    return f"pictures/{name}{suffix}"


def sentence(test: Mapping[str, Any]) -> str:
    """A test in words: its type, and what is set besides."""
    told = "; ".join(_told(test))
    return f"{test.get('type')}: {told}" if told else str(test.get("type"))


def _told(test: Mapping[str, Any]) -> Iterator[str]:
    for name, value in test.items():
        if name not in _HIDDEN and value not in ("", None):
            yield f"{name}: {value}"


def content_policy(script: str, style: str) -> str:
    """A content security policy: a page's own script, style and images, and nothing else."""
    return (
        "default-src 'none'; img-src 'self'; base-uri 'none'; form-action 'none'; "
        f"style-src {_hash(style)}; script-src {_hash(script)}"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
