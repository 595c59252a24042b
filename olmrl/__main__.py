"""Every command of olmrl behind one word; `python -m olmrl.COMMAND` is the same."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from olmrl import __version__
from olmrl.door import complain

COMMANDS = {
    "init": "write a first configuration for your pages, model and hardware",
    "grpo": "train on unit-test rewards",
    "sft": "train on pairs of page and markdown",
    "read": "read PDFs to markdown, Dolma or text, with a run, a model or a server",
    "bench": "score markdown by unit tests, compare candidates, transcribe pages",
    "mix": "build data sets of page pairs",
    "synth": "make pages and unit tests of known truth, and a tiny model",
    "checkpoint": "turn a run into a model to serve or share: export, average, 8 bit, parity, push",
    "data": "look at what a page becomes on its way into the model",
    "doctor": "check this machine and its installation",
    "config": "explain a key, print the schema, convert an olmocr configuration",
    "report": "write a run's HTML report, follow a run, or compare runs",
    "quickstart": "pages, a tiny model, SFT and GRPO on two CPU cores",
}


def main(argv: Sequence[str] | None = None, prog: str = "olmrl") -> int:
    """Run one command; gives its exit code, or 2 for one that does not exist."""
    command, *rest = list(sys.argv[1:] if argv is None else argv) or [""]
    if command in COMMANDS:
        # Deferred: only the command that is asked for is loaded.
        door = importlib.import_module(f"olmrl.{command}.__main__")
        return int(door.main(rest, prog=f"{prog} {command}"))
    if command in ("-V", "--version"):
        print(f"olmrl {__version__}")
        return 0
    if command in ("", "-h", "--help"):
        print(f"usage: {prog} COMMAND ...   (COMMAND --help for its options)\n")
        for name, line in COMMANDS.items():
            print(f"  {name:<12}{line}")
        print("\n  --version   print the version")
        return 0 if command else 2
    near = difflib.get_close_matches(command, COMMANDS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"commands are {', '.join(COMMANDS)}"
    return complain(prog, f"unknown command {command!r}; {hint}", 2)


if __name__ == "__main__":
    sys.exit(main(prog="python -m olmrl"))
