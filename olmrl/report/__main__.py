"""`python -m olmrl.report RUN` writes RUN/report.html; `--compare A B ... -o F` overlays runs."""

from __future__ import annotations

import argparse
import sys

from olmrl import storage
from olmrl.report.run import compare, write
from olmrl.run.directory import RunDirectory


def main(argv: list[str] | None = None) -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(prog="python -m olmrl.report", description=__doc__)
    parser.add_argument("runs", nargs="+", help="run directories")
    parser.add_argument("--compare", action="store_true", help="one page that overlays all runs")
    parser.add_argument("-o", "--output", default="compare.html", help="output file of --compare")
    arguments = parser.parse_args(argv)
    directories = [RunDirectory(run) for run in arguments.runs]
    for directory in directories:
        if not directory.started:
            print(f"{directory.path}: not a run directory (no config.yaml)", file=sys.stderr)
            return 2
    if arguments.compare:
        storage.write_text(arguments.output, compare(directories))
        print(arguments.output)
    else:
        for directory in directories:
            print(write(directory))
    return 0


if __name__ == "__main__":
    sys.exit(main())
