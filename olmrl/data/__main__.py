"""What a page becomes on its way into the model.

%(prog)s --config F --index 3 --save-image page.png     one page: prompt, labels, tokens, image
%(prog)s --config F --page loc/0042 --tokens            a page by its path, token by token
%(prog)s --config F --histogram --dropped lost.jsonl    all pages: lengths, which rules drop them
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from olmrl.arguments import ArgumentParser, whole
from olmrl.config import SftConfig, load
from olmrl.door import behind_door
from olmrl.preflight.checks import folders, require
from olmrl.run.quiet import quiet_libraries


def main(argv: Sequence[str] | None = None, prog: str = "python -m olmrl.data") -> int:
    """Command line entry; returns the exit code."""
    parser = _parser(prog)
    arguments, others = parser.parse_known_args(argv)
    unknown = [text for text in others if text.startswith("-") or "=" not in text]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    arguments.overrides += others  # overrides after a flag
    quiet_libraries()
    return behind_door(f"{prog} {arguments.verb}", lambda: _show(arguments))


def _show(arguments: argparse.Namespace) -> None:
    config = load(SftConfig, arguments.config, arguments.overrides)
    require(list(folders(config)))
    # Deferred: tokenizers and Ray take seconds, which a misspelt key need not wait for.
    from olmrl.data.commands import show

    show(config, arguments)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = ArgumentParser(prog, description="Look at the pages of an SFT configuration.")
    commands = parser.add_subparsers(dest="verb", required=True)
    show = commands.add_parser(
        "show",
        help="inspect the pages of an SFT configuration",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    show.add_argument("--config", required=True, help="SFT configuration (YAML)")
    show.add_argument("--set", default="train", help="train, or the name of an evaluation set")
    which = show.add_mutually_exclusive_group()
    which.add_argument(
        "--index", type=whole(0), default=0, help="number of the page, in path order"
    )
    which.add_argument("--page", help="first page whose path contains this text")
    which.add_argument("--histogram", action="store_true", help="lengths and drops of all pages")
    show.add_argument("--tokens", action="store_true", help="also list every token and its label")
    show.add_argument("--save-image", help="write the image that the model sees")
    show.add_argument("--dropped", help="with --histogram: write dropped and bad pages (JSONL)")
    show.add_argument("overrides", nargs="*", metavar="key=value", help="configuration overrides")
    return parser


if __name__ == "__main__":
    sys.exit(main())
