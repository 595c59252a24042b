"""PDF pages -> PNG or WEBP images at a given longer side.

A folder of PDFs becomes OUTPUT/<path>-<page>.png; a single PDF with `-` as OUTPUT prints one page
as base64. The size of a rendered PNG can be read from its header: `olmrl.mix.pdf.png_size`.
"""

# See docs/formats.md#page-rendering

from __future__ import annotations

import argparse
import base64
import sys
from typing import NamedTuple

from olmrl import storage
from olmrl.arguments import positive
from olmrl.mix import files
from olmrl.mix.pdf import PageImage
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.run import Outcome, Run, add_run_arguments, process
from olmrl.suffixes import cut_suffix, has_suffix, of_kind


class Pdf(NamedTuple):
    """One PDF to render."""

    path: str
    """Full path."""
    name: str
    """Path below the input, without `.pdf`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("input", help="a PDF, or a folder searched for *.pdf (local or s3://)")
    parser.add_argument("output", help="folder for the images, or `-`: one page as base64")
    parser.add_argument("--page", type=positive, help="only this page (default all; `-`: page 1)")
    parser.add_argument("--side", type=positive, default=2048, help="pixels of the longer side")
    parser.add_argument("--format", choices=("png", "webp"), default="png")
    add_run_arguments(parser, workers=4)


def run(options: argparse.Namespace) -> int:
    """Render the pages; see the module."""
    with PdfPool(options.workers) as pool:
        if options.output == "-":
            arguments = (options.page or 1, options.side, options.format)
            image: PageImage = pool.call("page_image", options.input, *arguments)
            sys.stdout.write(base64.b64encode(image.data).decode("ascii") + "\n")
            return 0
        documents, twins = find(options.input)
        settings = {k: getattr(options, k) for k in ("input", "page", "side", "format")}
        total = len(documents) + len(twins)
        with Run("render", options.output, settings, state=options.state, total=total) as verb:

            def work(document: Pdf) -> Outcome:
                return render(document, pool, options)

            items = ((document.name, document) for document in documents)
            verb.leave_twins(twins)
            process(verb, items, work, workers=options.workers)
        return verb.end(options.input, "page (*.pdf)")


def find(source: str) -> tuple[list[Pdf], list[str]]:
    """The PDFs of a folder, or the one PDF; and those whose pages would be called alike.

    Raises:
        ValueError: there are none.
    """
    if has_suffix(source, ".pdf") and storage.exists(source):
        return [Pdf(source, cut_suffix(source.rsplit("/", 1)[-1], ".pdf"))], []
    found = of_kind(files.listing(source, ".pdf"), ".pdf")
    if not found.by_stem:
        raise ValueError(f"{source}: no *.pdf below it")
    pdfs = [Pdf(path, files.relative(stem, source)) for stem, path in found.by_stem.items()]
    return pdfs, [files.relative(path, source) for path in found.twins]


def render(document: Pdf, pool: PdfPool, options: argparse.Namespace) -> Outcome:
    """Render the requested pages of one PDF."""
    count = pool.call("count_pages", document.path)
    pages = [options.page] if options.page else range(1, count + 1)
    for page in pages:
        image = pool.call("page_image", document.path, page, options.side, options.format)
        name = f"{document.name}-{page}.{options.format}"
        files.write(files.join_found(options.output, name), image.data)
    return Outcome(facts={"pages": len(pages)})
