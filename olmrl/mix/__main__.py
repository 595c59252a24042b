"""`python -m olmrl.mix VERB`: see README.md beside this file."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from typing import Any

from olmrl.arguments import ArgumentParser
from olmrl.door import behind_door, complain

VERBS = {
    "render": "PDF pages to PNG or WEBP images",
    "sample": "crawl list of PDFs to single-page PDFs: a seeded, filtered sample",
    "openai-build": "single-page PDFs to OpenAI batch requests",
    "openai-run": "submit, track and collect OpenAI batches",
    "openai-collect": "batch results to page pairs",
    "clean": "human transcripts to clean page pairs through the chat API",
    "loc": "Library of Congress transcripts to page pairs",
    "nara": "National Archives transcripts to page pairs",
    "hub-prepare": "Hugging Face data set to page pairs",
    "hub-package": "page pairs to a Hugging Face data set",
    "hub-push": "packaged data set with its card to the Hugging Face Hub",
    "workspace": "olmOCR pipeline results to page pairs",
    "decontaminate": "find pages that also occur in a bench folder and set them aside",
    "stats": "counts, histograms and a contact sheet of page pairs",
    "review": "judge sampled pages in the browser",
    "review-tests": "judge the tests of a bench folder in the browser",
    "rotate": "bench folder with a share of its pages turned, tests kept",
    "filter": "page pairs minus those that review or decontaminate rejected",
}


def build_parser(
    verb: str, prog: str = "python -m olmrl.mix"
) -> tuple[argparse.ArgumentParser, Any]:
    """The argument parser of one verb, and its module."""
    module = importlib.import_module(f"olmrl.mix.verbs.{verb.replace('-', '_')}")
    parser = ArgumentParser(
        prog=f"{prog} {verb}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return parser, module


def main(given: list[str] | None = None, prog: str = "python -m olmrl.mix") -> int:
    """Run one verb; exit code 0 complete, 1 failed items, 2 a wrong request, 130 interrupted."""
    arguments = sys.argv[1:] if given is None else given
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: {prog} VERB ...  (VERB --help for its options)\n")
        for name, text in VERBS.items():
            print(f"  {name:15s} {text}")
        return 0 if arguments else 2
    verb = arguments[0]
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(VERBS)}"
        return complain(prog, f"unknown verb {verb!r}; {hint}", 2)
    parser, module = build_parser(verb, prog)
    options = parser.parse_args(arguments[1:])
    again = "stopped; run the same command again to continue"
    return behind_door(f"{prog} {verb}", lambda: module.run(options), stopped=again)


if __name__ == "__main__":
    sys.exit(main())
