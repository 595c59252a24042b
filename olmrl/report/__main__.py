"""Write RUN/report.html; with --serve, a page on this machine that follows the run.

--compare writes one page of several runs; --serve takes one run, or two to see beside each other.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from olmrl import storage
from olmrl.arguments import ArgumentParser
from olmrl.door import behind_door, complain
from olmrl.run.directory import RunDirectory

_TOGETHER = "compare.html"
_PORT = 8321
_BESIDE = 2
"""Runs that a page shows beside each other."""


def main(argv: list[str] | None = None, prog: str = "python -m olmrl.report") -> int:
    """Command line entry."""
    parser = ArgumentParser(prog, description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directories")
    parser.add_argument("--serve", action="store_true", help="a local page that follows the run")
    parser.add_argument(
        "--port", type=int, default=_PORT, help=f"of --serve ({_PORT}); 0: a free one"
    )
    parser.add_argument("--compare", action="store_true", help="one page that overlays all runs")
    parser.add_argument(
        "-o", "--output", help=f"file of --compare ({_TOGETHER}), or of one run's report"
    )
    arguments = parser.parse_intermixed_args(argv)
    directories = [RunDirectory(run) for run in arguments.runs]
    wrong = _wrong(arguments, directories)
    if wrong is not None:
        return complain(prog, wrong, 2)

    def work() -> None:
        if arguments.serve:
            _serve(directories, arguments.port)
        else:
            default = _TOGETHER if arguments.compare else None
            _write(directories, arguments.output or default)

    return behind_door(prog, work)


def _wrong(arguments: argparse.Namespace, directories: Sequence[RunDirectory]) -> str | None:
    """What is wrong with the request, in a sentence."""
    for directory in directories:
        if not directory.started:
            return f"{directory.path}: not a run directory (no config.yaml)"
    if arguments.serve and arguments.compare:
        return "--serve shows runs beside each other by itself; leave --compare out"
    if arguments.serve and len(directories) > _BESIDE:
        return (
            f"--serve shows one run or two, not {len(directories)}; --compare overlays any number"
        )
    if not 0 <= arguments.port <= 65535:
        return f"--port {arguments.port}: a port is a number from 0 to 65535"
    if arguments.output and arguments.serve:
        return "-o: --serve writes no file; leave one of them out"
    if arguments.output and not arguments.compare and len(directories) > 1:
        return "-o: every report goes into its run's folder; with --compare, all into one file"
    return None


def _write(directories: Sequence[RunDirectory], together: str | None) -> None:
    # Deferred: the templates' engine need not be loaded to refuse a request.
    from olmrl.report.run import compare, write

    if together is not None:
        storage.write_html(together, compare(directories))
        print(together)
        return
    for directory in directories:
        print(write(directory))


def _serve(directories: Sequence[RunDirectory], port: int) -> None:
    # Deferred: likewise.
    from olmrl.report.serve import Server, Site

    with Server(Site(directories), port) as server:
        print(f"follow the run at {server.address}\nCtrl-C ends the page, not the run", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    sys.exit(main())
