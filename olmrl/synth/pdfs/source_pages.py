"""Which pages of the user's PDFs are made again: drawn by seed, filtered, near copies left out.

Drawing goes by a hash of seed and path, so that the order of a list does not matter, and a PDF that
is added moves no other one. A page's name follows its content: hash of its PDF, and its number.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

from PIL import Image

from olmrl import storage
from olmrl.data.bad_page import BadPage
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.run import Run, in_order
from olmrl.mix.verbs import sample
from olmrl.suffixes import has_suffix
from olmrl.synth.cleaning.near_copies import Print, near_copies, print_of
from olmrl.synth.making.claim import outside
from olmrl.synth.pdfs.writing import SourcePage

_PRINT_SIDE = 64


@dataclass(frozen=True)
class Choice:
    """What is chosen, and who draws it."""

    seed: int = 0
    documents: int | None = None
    """Most PDFs that give pages; None: all."""
    pages_per_pdf: int = 1
    no_filter: bool = False
    languages: str = "any"
    keep_forms: bool = False
    spam_share: float = 0.004
    ray: str | None = None


@dataclass
class Chosen:
    """The pages, and why others are not among them."""

    pages: list[SourcePage] = field(default_factory=list)
    """Sorted by name."""
    documents: int = 0
    """PDFs of the source."""
    left: dict[str, str] = field(default_factory=dict)
    """Why a PDF or a page was left out, by its path or name."""


def choose_pages(
    source: str,
    folder: str,
    choice: Choice,
    workers: int,
    out: str | None = None,
    *,
    lasting: bool = True,
) -> Chosen:
    """Cut the chosen pages out of their PDFs.

    Args:
        source: PDF, folder, glob or list of PDFs, local or remote.
        folder: Where the pages are written; an earlier choice there is completed.
        choice: See there.
        workers: Child processes.
        out: The call's own folder, whose PDFs are no source.
        lasting: Whether the folder stays.

    Raises:
        ValueError: no PDF there.
    """
    is_pdf = has_suffix(source, ".pdf") and storage.exists(source)
    paths = [source] if is_pdf else list(sample.list_pdfs(source))
    if out is not None:
        paths = outside(out, paths)
    drawn = sorted(set(paths), key=lambda path: _place(choice.seed, path))
    if not drawn:
        raise ValueError(f"{source}: no PDF in it")
    most = choice.documents or len(drawn)
    options = _options(choice, folder, workers, most)
    names = ("seed", "max_pages", "no_filter", "languages", "keep_forms", "spam_share")
    settings = {name: getattr(options, name) for name in names}
    # each choice in a folder of its own: another one is no reason to begin anew
    mark = hashlib.sha256(json.dumps(settings).encode("utf-8")).hexdigest()[:8]
    folder = options.output = storage.join(folder, mark)
    chosen = Chosen(documents=len(drawn))
    with Run("choose", folder, settings, lasting=lasting) as verb:
        if verb.counts["done"] < most:
            todo = [path for path in drawn if not verb.finished(path)]
            sample.take(verb, todo, options)
        given = list(islice((path for path in drawn if path in verb.noted), most))
        for path in given:
            note = verb.noted[path]
            for number in note["pages"]:
                cut = storage.join(folder, sample.page_id(note["sha1"], number) + ".pdf")
                name = f"{note['sha1'][:16]}-p{number}"
                chosen.pages.append(SourcePage(name, cut, path, number))
        chosen.left = {path: reason for path, (_, reason, _) in sorted(verb.problems.items())}
    _leave_copies(chosen, workers)
    return chosen


def _place(seed: int, path: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{path}".encode("utf-8", "surrogateescape")).digest()


def _options(choice: Choice, folder: str, workers: int, most: int) -> argparse.Namespace:
    """Of `mix sample`."""
    return argparse.Namespace(
        output=folder,
        docs=most,
        first_pages=0,
        max_pages=choice.pages_per_pdf,
        seed=choice.seed,
        no_filter=choice.no_filter,
        languages=choice.languages,
        keep_forms=choice.keep_forms,
        spam_share=choice.spam_share,
        workers=workers,
        ray=choice.ray,
    )


def _leave_copies(chosen: Chosen, workers: int) -> None:
    """Take near copies and pages that cannot be drawn out of the chosen ones."""
    pages = sorted(chosen.pages, key=lambda page: page.name)
    prints: dict[str, Print] = {}
    with PdfPool(workers) as pool:

        def look(page: SourcePage) -> Print | BadPage:
            try:
                text = pool.call("page_text", page.pdf, 1)
                picture = pool.call("page_image", page.pdf, 1, _PRINT_SIDE)
            except BadPage as bad:
                return bad
            return print_of(text, Image.open(io.BytesIO(picture.data)))

        for page, found in zip(pages, in_order(look, pages, workers=workers), strict=True):
            if isinstance(found, BadPage):
                chosen.left[page.name] = found.reason
            else:
                prints[page.name] = found
    copies = near_copies(prints)
    chosen.left |= {name: f"nearly the same as {other}" for name, other in copies.items()}
    chosen.pages = [page for page in pages if page.name in prints and page.name not in copies]


def told(chosen: Chosen) -> dict[str, object]:
    """For the report."""
    reasons = Counter(map(kind_of, chosen.left.values()))
    return {
        "documents": chosen.documents,
        "pages": len(chosen.pages),
        "left_out": dict(reasons.most_common()),
    }


def kind_of(reason: str) -> str:
    """A reason without the name of the page that another one is like."""
    return reason.split(" as ")[0] if reason.startswith("nearly") else reason
