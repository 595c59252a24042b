"""Page pairs -> the same pairs minus those that `review` or `decontaminate` rejected.

Writes OUTPUT with links to the kept pairs (copies on s3://) and the kept rows of urls.jsonl and
extras.jsonl.
"""

from __future__ import annotations

import argparse

from olmrl import storage
from olmrl.mix import files, pairs
from olmrl.mix.review_marks import read_marks
from olmrl.mix.run import Outcome, Run, add_run_arguments, process


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("pairs", help="folder of page pairs")
    parser.add_argument("output", help="folder for the kept pairs")
    parser.add_argument("--marks", action="append", default=[], help="review's marks.jsonl")
    parser.add_argument(
        "--drop", action="append", default=[], help="JSONL with ids to drop (contaminated.jsonl)"
    )
    add_run_arguments(parser, workers=8)


def run(options: argparse.Namespace) -> int:
    """Filter the pairs; see the module."""
    if not options.marks and not options.drop:
        raise ValueError("nothing to filter by: give --marks or --drop")
    files.check_apart(options.pairs, options.output)
    dropped = rejected(options)
    settings = {k: getattr(options, k) for k in ("pairs", "marks", "drop")}
    found, beside = pairs.scan(options.pairs)
    unknown = sorted(dropped - {pair.id for pair in found})
    if len(dropped) - len(unknown) == len(found):
        raise ValueError(f"{options.pairs}: each of its {len(found)} page pairs is to be dropped")
    with Run("filter", options.output, settings, state=options.state, total=len(found)) as verb:

        def keep(pair: pairs.Pair) -> Outcome:
            base = files.join_found(options.output, pair.id)
            if storage.exists(pair.pdf):
                files.place(pair.pdf, base + ".pdf")
            files.place(pair.md, base + ".md")
            return Outcome(facts={"pages": 1})

        verb.tell_beside(len(found), beside)
        kept = ((pair.id, pair) for pair in found if pair.id not in dropped)
        process(verb, kept, keep, workers=options.workers)
        for name in ("urls", "extras"):
            copy_rows(storage.join(options.pairs, f"{name}.jsonl"), options.output, dropped)
        verb.notes |= {"dropped": len(dropped) - len(unknown), "dropped_but_not_there": unknown}
        missing = f", {len(unknown)} to drop are not there" if unknown else ""
        verb.progress.say(f"{len(found)} pairs, {len(dropped) - len(unknown)} dropped{missing}")
    return 0


def rejected(options: argparse.Namespace) -> set[str]:
    """Ids to drop.

    Raises:
        ValueError: a row has no id.
    """
    bad = {i for path in options.marks for i, m in read_marks(path).items() if m.verdict == "bad"}
    for path in options.drop:
        for number, row in storage.read_jsonl(path):
            if not isinstance(row, dict) or not isinstance(row.get("id"), str):
                raise ValueError(f"{path}, line {number}: must be an object with a text id")
            bad.add(row["id"])
    return bad


def copy_rows(path: str, output: str, dropped: set[str]) -> None:
    """Copy the rows of urls.jsonl or extras.jsonl that belong to kept pairs."""
    if not storage.exists(path):
        return
    gone = dropped | {pair_id.replace("/", "") for pair_id in dropped}
    rows = (row for _, row in storage.read_jsonl(path) if row.get("id") not in gone)
    name = path.rsplit("/", 1)[-1]
    files.write_lines(storage.join(output, name), map(pairs.json_line, rows))
