"""Score a folder of markdown, compare several, transcribe pages and score them, or import tests.

%(prog)s score FOLDER --candidate NAME [--json FILE] [--html FILE]
%(prog)s compare FOLDER --candidate NAME --against OTHER [--against THIRD]
%(prog)s run FOLDER --model RUN_OR_MODEL [--candidate NAME] [--ladder] [--rotate]
%(prog)s run FOLDER --model NAME --base-url http://host:8000/v1
%(prog)s import-omni DATASET FOLDER
"""

from __future__ import annotations

import argparse
import re
import sys
from functools import partial
from pathlib import Path

from olmrl import storage
from olmrl.arguments import ArgumentParser, whole
from olmrl.door import behind_door
from olmrl.errors import check_all
from olmrl.read.options import add_reading_arguments, reading_checks
from olmrl.run.quiet import quiet_libraries

MOST_DRAWS = 1_000_000
"""Draws of a bootstrap or a permutation test beyond which nothing is learnt and memory ends."""


def main(arguments: list[str] | None = None, prog: str = "python -m olmrl.bench") -> int:
    """Runs the command line; returns the exit code (1 when outputs are missing)."""
    options = _parser(prog).parse_args(arguments)
    quiet_libraries()
    work = _import_omni if options.verb == "import-omni" else _run
    return behind_door(f"{prog} {options.verb}", lambda: work(options))


def _check(options: argparse.Namespace) -> None:
    """What can be judged without loading anything."""
    check_all(
        partial(_check_folder, options),
        partial(_check_counts, options),
        partial(_check_pattern, options.files),
        partial(_check_file, "--json", options.json),
        partial(_check_file, "--html", options.html),
        *(reading_checks(options) if options.verb == "run" else ()),
    )


def _check_folder(options: argparse.Namespace) -> None:
    if not options.folder.exists():
        raise ValueError(f"{options.folder}: no such folder")
    if options.verb == "run":
        if not options.folder.is_dir():
            raise ValueError(f"{options.folder}: bench run needs a bench folder")
        return
    # Deferred: parsers come along, which a mistyped option need not wait for.
    from olmrl.bench.candidates import candidate_folder, refuse_twice

    folder = options.folder if options.folder.is_dir() else options.folder.parent
    names = [options.candidate, *getattr(options, "against", ())]
    refuse_twice(names)
    check_all(*(partial(candidate_folder, folder, name) for name in names))


def _check_counts(options: argparse.Namespace) -> None:
    if not 0 < options.confidence < 1:
        raise ValueError(f"--confidence is {options.confidence}, must be between 0 and 1")
    for name in ("bootstrap_samples", "permutations", "repeats"):
        value = getattr(options, name, 1)
        if value < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {value}, must be >= 1")
        if value > MOST_DRAWS:
            raise ValueError(f"--{name.replace('_', '-')} is {value}, must be <= {MOST_DRAWS}")


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"--files {pattern!r} is not a regular expression: {error}") from error


def _check_file(option: str, path: Path | None) -> None:
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"{option} {path}: is a folder; name a file")
    storage.check_target(path.parent, f"{option} {path}: ")


def _import_omni(options: argparse.Namespace) -> int:
    from olmrl.bench import omni_parse

    print(omni_parse.summary(omni_parse.write(options.dataset, options.folder)))
    return 0


def _run(options: argparse.Namespace) -> int:
    _check(options)
    # Deferred: parsing, drawing and above all engines take seconds of CPU to load.
    if options.verb == "run":
        from olmrl.bench.engine_commands import transcribe_folder

        transcribe_folder(options)
    from olmrl.bench import commands

    verb = commands.compare_all if options.verb == "compare" else commands.score
    return verb(options)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = ArgumentParser(prog, description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="verb", required=True)
    score = commands.add_parser("score", help="score one candidate")
    score.add_argument("--html", type=Path, help="write a report with page images")
    score.add_argument(
        "--max-pages", type=whole(0), default=100, help="limit on failed pages shown"
    )
    versus = commands.add_parser("compare", help="compare a candidate with others, test by test")
    versus.add_argument(
        "--against",
        required=True,
        action="append",
        metavar="OTHER",
        help="name of another's folder; repeat it for several",
    )
    versus.add_argument("--html", type=Path, help="write the table as a page")
    versus.add_argument("--permutations", type=int, default=10_000)
    made = commands.add_parser("run", help="transcribe as `olmrl read` does, then score")
    made.add_argument("--html", type=Path, help="write a report with page images")
    made.add_argument("--max-pages", type=whole(0), default=100, help="limit on failed pages shown")
    made.add_argument("--repeats", type=int, default=1, help="transcriptions per page")
    add_reading_arguments(made, whole=False)
    omni = commands.add_parser("import-omni", help="make a bench folder of Omni Parse Bench")
    omni.add_argument("dataset", type=Path, help="its data set: pages/, gold/")
    omni.add_argument("folder", type=Path, help="the bench folder to make")
    for command in (score, versus, made):
        command.add_argument("folder", type=Path, help="bench folder, or one of its JSONL files")
        command.add_argument(
            "--candidate", required=command is not made, help="name of the candidate's folder"
        )
        command.add_argument("--json", type=Path, help="write the result as JSON")
        command.add_argument("--compat", action="store_true", help="verdicts of the public bench")
        command.add_argument("--files", default="", help="regular expression on JSONL file names")
        command.add_argument(
            "--skip-invalid", action="store_true", help="leave out invalid tests and count them"
        )
        command.add_argument(
            "--force", action="store_true", help="score a folder with pages that have no test"
        )
        command.add_argument("--skip-baseline", action="store_true", help="no added baseline tests")
        command.add_argument("--bootstrap-samples", type=int, default=1000)
        command.add_argument("--confidence", type=float, default=0.95)
        command.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    sys.exit(main())
