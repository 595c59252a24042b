"""Pages whose truth is known, read from a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath

from olmrl import storage
from olmrl.data.render import BadPage, page_count
from olmrl.errors import is_of_machine, sentence
from olmrl.markup import front_matter
from olmrl.progress import track
from olmrl.suffixes import TWIN, of_kind
from olmrl.synth.derived.furniture import margin_lines
from olmrl.synth.proof.html_truth import read_html


@dataclass(frozen=True)
class TruePage:
    """A page whose truth is known."""

    name: str
    """Path of the PDF below PAIRS, without suffix."""
    pdf_path: str
    truth: str
    """Front matter (if the source has it) and body."""
    body: str
    furniture: tuple[str, ...] = ()
    """Running headers and footers that an HTML source marks as such."""
    margins: tuple[str, ...] = ()
    """Lines in the margins of the PDF."""


def find_pages(root: str) -> tuple[list[TruePage], dict[str, str]]:
    """Read all pages of a folder.

    Returns:
        The pages sorted by name, and why each other .pdf, .md or .html file is not a page.

    Raises:
        ValueError: no such folder, or no page in it.
    """
    paths = storage.list_files(root)
    pdfs, texts, html = (of_kind(paths, suffix) for suffix in (".pdf", ".md", ".html"))
    stems = sorted(texts.by_stem.keys() | html.by_stem.keys())
    twins = [os.path.relpath(path, root) for kind in (pdfs, texts, html) for path in kind.twins]
    pages, skipped = [], dict.fromkeys(twins, TWIN)
    for stem, pdf in pdfs.by_stem.items():
        if stem not in texts.by_stem and stem not in html.by_stem:
            skipped[os.path.relpath(pdf, root)] = "there is no .md or .html next to it"
    for stem in track(stems, "reading pages", len(stems)):
        name = os.path.relpath(stem, root)
        try:
            pages.append(
                _read_page(name, *(kind.by_stem.get(stem) for kind in (pdfs, texts, html)))
            )
        except BadPage as error:
            skipped[name] = error.reason
        except ValueError as error:
            skipped[name] = str(error)
        except OSError as error:
            if is_of_machine(error):
                raise
            skipped[name] = sentence(error)
    if not pages:
        reasons = "; ".join(f"{name}: {why}" for name, why in islice(skipped.items(), 3))
        raise ValueError(
            f"{root}: no usable page (X.pdf with X.md or X.html) in it"
            + (f" ({reasons})" if reasons else "")
        )
    return pages, skipped


def _read_page(name: str, pdf: str | None, text: str | None, html: str | None) -> TruePage:
    if pdf is None:
        raise ValueError("there is no PDF next to it")
    if page_count(pdf) != 1:
        raise ValueError("the PDF has more than one page")
    marked: tuple[str, ...] = ()
    truth = None
    if html is not None:
        page = read_html(storage.read_document(html))
        truth, marked = page.markdown, page.furniture
    if text is not None:
        truth = storage.read_document(text)
    assert truth is not None
    return TruePage(
        name=PurePosixPath(name).as_posix(),
        pdf_path=pdf,
        truth=truth,
        body=front_matter.strip(truth).strip(),
        furniture=marked,
        margins=() if marked else margin_lines(pdf),
    )
