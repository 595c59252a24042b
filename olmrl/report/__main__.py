"""Write RUN/report.html; with --compare, one page of several runs over each other."""

from __future__ import annotations

import sys

from olmrl import storage
from olmrl.arguments import ArgumentParser
from olmrl.errors import sentence
from olmrl.run.directory import RunDirectory


def main(argv: list[str] | None = None, prog: str = "python -m olmrl.report") -> int:
    """Command line entry."""
    parser = ArgumentParser(prog, description=__doc__)
    parser.add_argument("runs", nargs="+", help="run directories")
    parser.add_argument("--compare", action="store_true", help="one page that overlays all runs")
    parser.add_argument("-o", "--output", default="compare.html", help="output file of --compare")
    arguments = parser.parse_args(argv)
    directories = [RunDirectory(run) for run in arguments.runs]
    for directory in directories:
        if not directory.started:
            print(
                f"olmrl.report: {directory.path}: not a run directory (no config.yaml)",
                file=sys.stderr,
            )
            return 2
    # Deferred: drawing takes two seconds of CPU to load.
    from olmrl.report.run import compare, write

    try:
        if arguments.compare:
            storage.write_html(arguments.output, compare(directories))
            print(arguments.output)
        else:
            for directory in directories:
                print(write(directory))
    except (ValueError, OSError) as error:
        print(f"olmrl.report: {sentence(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
