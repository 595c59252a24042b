"""Check this machine and its installation: a line each, and what to do where it fails.

Exit code 0: olmrl can work here (lines marked `note` name limits); 1: something must be mended.
On a cluster, run it on every kind of node.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence

from olmrl.arguments import ArgumentParser
from olmrl.doctor.checks import Line, failed, judge
from olmrl.doctor.facts import gather
from olmrl.door import behind_door, complain

_WIDTH = 100
_INDENT = " " * 21


def main(argv: Sequence[str] | None = None, prog: str = "python -m olmrl.doctor") -> int:
    """Command line entry; returns the exit code."""
    parser = ArgumentParser(prog, description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--speed", action="store_true", help="measure matrix products (5 s)")
    parser.add_argument("--folder", default=".", help="where runs will be written (default: here)")
    options = parser.parse_args(argv)
    return behind_door(prog, lambda: _examine(options, prog))


def _examine(options: argparse.Namespace, prog: str) -> int:
    lines = judge(gather(options.folder))
    for line in lines:
        print(shown(line))
    if options.speed:
        # Deferred: torch takes seconds.
        from olmrl.doctor.speed import matrix_speeds

        for name, speed in matrix_speeds().items():
            print(f"{'':<5} {name:<14} {speed / 1e9:,.0f} GFLOP/s, measured")
    if failed(lines):
        return complain(prog, "some checks failed; see the arrows", 1)
    return 0


def shown(line: Line) -> str:
    """A check as text, its remedy on lines of its own."""
    head = _filled(f"{line.level:<5} {line.subject:<14} {line.text}", "", _INDENT)
    return f"{head}\n{_filled(line.remedy, _INDENT + '-> ', _INDENT + '   ')}".rstrip()


def _filled(text: str, first: str, others: str) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


if __name__ == "__main__":
    sys.exit(main())
