"""Write a first configuration for pages of your own.

Asks for the pages, the model and the hardware, or takes them as options. What it writes to
DIR/config.yaml fits them, explains every key, and passes --dry-run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from olmrl.arguments import ArgumentParser
from olmrl.door import behind_door

_MODEL = "qwen2_5_vl"


def main(argv: Sequence[str] | None = None, prog: str = "python -m olmrl.init") -> int:
    """Command line entry; returns the exit code."""
    parser = ArgumentParser(prog, description=__doc__)
    parser.add_argument("dir", metavar="DIR", help="new folder for config.yaml and the run")
    parser.add_argument("--method", choices=("sft", "grpo"), help="default: what the pages are for")
    parser.add_argument("--data", help="page pairs (sft) or a bench folder (grpo)")
    parser.add_argument("--model", help="run, model folder, name on the Hub, or a family")
    parser.add_argument("--hardware", help="auto, cpu or a cluster such as 1x8xH100-80G")
    options = parser.parse_args(argv)
    return behind_door(
        prog, lambda: _ask_and_write(parser, options), stopped="stopped; nothing was written"
    )


def _ask_and_write(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    ask = _asker(parser)
    options.data = options.data or ask("--data", "Folder with your pages")
    options.model = options.model or ask(
        "--model", "Model: a run, a folder, a name on the Hub, or a family", _MODEL
    )
    options.hardware = options.hardware or ask(
        "--hardware", "Hardware: auto (this machine), cpu, or e.g. 1x8xH100-80G", "auto"
    )
    # Deferred: half a second of CPU, which a wrong option need not wait for.
    from olmrl.init.commands import write

    return write(options)


def _asker(parser: argparse.ArgumentParser) -> Callable[..., str]:
    """Asks for what no option gave, where somebody can answer."""

    def ask(option: str, question: str, default: str = "") -> str:
        if not sys.stdin.isatty():
            if default:
                return default
            parser.error(f"{option} is needed: nobody is at a terminal to be asked")
        shown = f"{question} [{default}]: " if default else f"{question}: "
        try:
            while not (answer := input(shown).strip() or default):
                pass
        except (EOFError, KeyboardInterrupt):
            print()  # the sentence has a line of its own
            raise KeyboardInterrupt from None
        return answer

    return ask


if __name__ == "__main__":
    sys.exit(main())
