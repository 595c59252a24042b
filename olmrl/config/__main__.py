"""Look up what a configuration takes, or convert one of olmocr."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial

import yaml

from olmrl import storage
from olmrl.arguments import ArgumentParser
from olmrl.config.convert import Conversion, convert
from olmrl.config.explain import SCHEMAS, explain, json_schema
from olmrl.config.load import parse_yaml, validate
from olmrl.config.schema import SftConfig
from olmrl.door import behind_door
from olmrl.errors import check_all
from olmrl.pipes import read_text


def main(argv: Sequence[str] | None = None, prog: str = "python -m olmrl.config") -> int:
    """Command line entry; returns the exit code."""
    parser = ArgumentParser(prog, description=__doc__)
    commands = parser.add_subparsers(dest="verb", required=True)
    converting = commands.add_parser("convert", help="convert a public olmocr training YAML")
    converting.add_argument("file", help="olmocr training configuration")
    converting.add_argument("-o", "--output", help="file to write; default: standard output")
    converting.set_defaults(run=lambda given: _convert(given.file, given.output))
    schema = commands.add_parser("schema", help="JSON schema, with which editors check YAML")
    schema.add_argument("command", choices=list(SCHEMAS))
    schema.set_defaults(run=lambda given: print(json_schema(given.command)))
    explaining = commands.add_parser("explain", help="type, default and users of a key")
    explaining.add_argument("key", help="such as learner.optimizer.lr; a section lists its keys")
    explaining.set_defaults(run=lambda given: print(explain(given.key)))
    arguments = parser.parse_args(argv)
    return behind_door(f"{prog} {arguments.verb}", lambda: arguments.run(arguments))


def _convert(file: str, output: str | None) -> None:
    read: list[Conversion] = []
    check_all(partial(_check_output, output), lambda: read.append(_converted(file)))
    (conversion,) = read
    text = render(conversion, file)
    if output is None:
        print(text, end="")
    else:
        storage.write_text(output, text)
    for line in (*conversion.notes, *(f"ignored: {line}" for line in conversion.ignored)):
        print(line, file=sys.stderr)


def _check_output(output: str | None) -> None:
    if output is not None and os.path.exists(output):
        raise ValueError(f"{output}: already exists and is not overwritten")


def _converted(file: str) -> Conversion:
    """The converted configuration, checked as a start of `olmrl sft` would.

    Raises:
        ValueError: it cannot be converted.
    """
    # Deferred: half a second of CPU.
    from olmrl.data.steps import build_pipeline
    from olmrl.models.registry import described

    conversion = convert(parse_yaml(read_text(file), file), file)
    config = validate(SftConfig, conversion.values, file)
    try:
        described(config.model.path)
    except ValueError as error:
        raise ValueError(f"{file}: model.name: {error}") from error
    for entry in (*config.data.train, *config.data.evaluation):
        steps = config.data.pipeline if entry.pipeline is None else entry.pipeline
        build_pipeline(steps, f"{file}: pipeline of {entry.root}")
    return conversion


def render(conversion: Conversion, source: str) -> str:
    """The converted configuration as YAML, with what was ignored as comments at its head."""
    lines = [f"Purpose:  SFT as {source} does it with olmocr, converted by olmrl.config convert."]
    lines += [f"Note:     {note}" for note in conversion.notes]
    lines += [f"Ignored:  {line}" for line in conversion.ignored]
    head = "".join("# " + " ".join(line.splitlines()) + "\n" for line in lines)
    return head + yaml.safe_dump(conversion.values, sort_keys=False, allow_unicode=True)


if __name__ == "__main__":
    sys.exit(main())
