"""Options of `synth from-pdfs`."""

from __future__ import annotations

import argparse
import os

from olmrl.arguments import positive, real
from olmrl.mix.api import add_api_arguments
from olmrl.mix.pdf_map import add_ray_argument
from olmrl.mix.verbs.sample import add_filter_arguments
from olmrl.synth.making import extras
from olmrl.synth.variants.kinds import PICTURED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them to a parser."""
    parser.add_argument("source", help="PDF, folder, glob or list of PDFs, local or s3://")
    parser.add_argument(
        "out", help="folder to write: bench/, pairs/, sheet/, manifest.jsonl, report.json"
    )
    parser.add_argument("--model", required=True, help="as the endpoint calls it")
    add_api_arguments(parser)
    parser.add_argument("--batch", action="store_true", help="use the Batch API, at half the price")
    parser.add_argument("--dry-run", action="store_true", help="only say what it would cost")
    parser.add_argument("--max-usd", type=float, help="ask nothing more once this is spent")
    parser.add_argument("--max-tokens", type=positive, default=16384, help="of one answer")
    parser.add_argument(
        "--templates", metavar="DIR", help="your own prompts (`synth templates DIR` writes olmrl's)"
    )
    parser.add_argument("--densify", action="store_true", help="ask for twice the text on a page")
    parser.add_argument("--side", type=positive, default=1024, help="pixels of pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--documents", type=positive, help="most PDFs, drawn by seed (default: all)"
    )
    parser.add_argument("--pages-per-pdf", type=positive, default=1, help="most pages of one PDF")
    add_filter_arguments(parser, languages="any")
    parser.add_argument("--max-tests", type=positive, default=40, help="maximum tests per page")
    parser.add_argument(
        "--concurrency", type=positive, default=8, help="pages asked about at a time"
    )
    parser.add_argument(
        "--timeout", type=real(0, above=True), default=300.0, help="seconds to wait for a byte"
    )
    parser.add_argument(
        "--poll", type=real(0), default=30.0, help="seconds between looks at a batch"
    )
    parser.add_argument(
        "--workers", type=positive, default=os.cpu_count() or 1, help="browsers and PDF readers"
    )
    add_ray_argument(parser)
    extras.add_arguments(parser, (*PICTURED, "typos"))
