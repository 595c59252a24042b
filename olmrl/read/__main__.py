"""Read whole PDFs, with a model that was trained here or any other.

%(prog)s PDF_OR_FOLDER... --model RUN_OR_MODEL -o OUT
%(prog)s PDF_OR_FOLDER... --model NAME --base-url http://host:8000/v1 -o OUT

Files and folders may be local or remote (s3://...). A call that was stopped goes on page by page
when it is given again. OUT gets a file per document, bad_pages.jsonl and summary.json.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial

from olmrl import storage
from olmrl.arguments import ArgumentParser
from olmrl.door import behind_door
from olmrl.errors import check_all
from olmrl.read.options import add_reading_arguments, check_number, reading_checks
from olmrl.run.quiet import quiet_libraries
from olmrl.suffixes import has_suffix

FORMATS = ("markdown", "dolma", "text")
_PDF_HEAD = 1024
"""Bytes among which a PDF says that it is one."""


def main(argv: Sequence[str] | None = None, prog: str = "python -m olmrl.read") -> int:
    """Command line entry; exit code 1: pages failed, 2: the request was wrong."""
    options = _parser(prog).parse_intermixed_args(argv)
    quiet_libraries()
    return behind_door(
        prog, lambda: _read(options), stopped="stopped; the same command goes on from here"
    )


def _read(options: argparse.Namespace) -> int:
    _check(options)
    # Deferred: everything that reads takes seconds of CPU to load.
    from olmrl.read.commands import run

    return run(options)


def _check(options: argparse.Namespace) -> None:
    """What can be judged without loading anything."""
    check_all(
        *(partial(_check_place, place) for place in options.pdfs),
        partial(storage.check_target, options.out, "--out "),
        partial(check_number, "--price-per-hour", options.price_per_hour or 0.0, at_least=True),
        *reading_checks(options),
    )


def _check_place(place: str) -> None:
    if not storage.is_remote(place) and not os.path.exists(place):
        raise ValueError(f"{place}: no such file or folder")
    if os.path.isfile(place) and not has_suffix(place, ".pdf"):
        with open(place, "rb") as file:
            if b"%PDF" not in file.read(_PDF_HEAD):
                raise ValueError(f"{place}: not a PDF")


def _formats(text: str) -> tuple[str, ...]:
    """An argparse type: some of `FORMATS`, with commas between them."""
    names = tuple(dict.fromkeys(text.split(",")))
    if not set(names) <= set(FORMATS):
        raise argparse.ArgumentTypeError(f"{text!r} must be some of {', '.join(FORMATS)}")
    return names


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = ArgumentParser(prog, description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("pdfs", nargs="+", metavar="PDF_OR_FOLDER", help="local or remote")
    parser.add_argument("-o", "--out", required=True, help="folder for the texts, local or remote")
    parser.add_argument(
        "--format",
        type=_formats,
        default=("markdown",),
        metavar="markdown,dolma,text",
        help="dolma: results/*.jsonl, which `mix workspace` takes (default: markdown)",
    )
    parser.add_argument(
        "--fallback",
        choices=("pdf-text", "answer", "empty"),
        default="pdf-text",
        help="text of a page without a whole answer: the PDF's own, the last answer, none",
    )
    parser.add_argument("--price-per-hour", type=float, help="dollars, of all machines together")
    parser.add_argument("--seed", type=int, default=0)
    add_reading_arguments(parser, whole=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
