"""From a run to a model that can be served and shared."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from typing import get_args

from olmrl.arguments import ArgumentParser, positive, real, whole
from olmrl.config.schema import Dtype
from olmrl.door import behind_door
from olmrl.export.recipes import RECIPES
from olmrl.export.requests import check
from olmrl.run.quiet import quiet_libraries
from olmrl.share.options import add_sharing_arguments


def main(arguments: Sequence[str] | None = None, prog: str = "python -m olmrl.checkpoint") -> int:
    """Run one verb; a user error ends in one sentence and exit code 2."""
    options = _parser(prog).parse_args(arguments)
    quiet_libraries()
    return behind_door(f"{prog} {options.verb}", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    check(options)
    # Deferred: a wrong path need not wait for torch and a model's code, ten seconds of CPU.
    if options.verb == "push":
        from olmrl.checkpoint.push_commands import run_push

        return run_push(options)
    from olmrl.checkpoint.commands import run

    return run(options)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = ArgumentParser(prog, description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    export = verbs.add_parser("hf", help="a run's checkpoint as a model folder")
    export.add_argument("run_dir", metavar="RUN", help="run directory")
    export.add_argument("out", metavar="OUT", help="new model folder")
    which = export.add_mutually_exclusive_group()
    which.add_argument("--step", type=whole(0), help="step of the checkpoint; default: the newest")
    which.add_argument("--best", action="store_true", help="the best by evaluation")
    export.add_argument("--base", help="source of config and processor, if model.path has moved")
    export.add_argument("--dtype", choices=get_args(Dtype), help="default: the run's model.dtype")

    average = verbs.add_parser("soup", help="weighted average of models")
    average.add_argument("models", nargs="+", metavar="MODEL", help="model folders")
    average.add_argument("out", metavar="OUT", help="new model folder")
    average.add_argument(
        "--weights",
        type=real(-math.inf),
        nargs="+",
        help="weight of each model, summing to 1; default: equal",
    )

    rounding = verbs.add_parser("fp8", help="8-bit copy for vLLM")
    rounding.add_argument("model", metavar="MODEL", help="model folder")
    rounding.add_argument("out", metavar="OUT", help="new model folder")
    rounding.add_argument("--recipe", choices=list(RECIPES), default="w8a8_dynamic")
    _add_page_options(rounding, required=False)

    _add_push(
        verbs.add_parser("push", help="a run's model, with its card, to the Hugging Face Hub")
    )

    compare = verbs.add_parser("parity", help="transformers against vLLM, token for token")
    compare.add_argument("model", metavar="MODEL", help="model folder")
    _add_page_options(compare, required=True)
    compare.add_argument("--worst", type=whole(0), default=10, help="tokens listed (default 10)")
    compare.add_argument(
        "--max-mean-gap", type=real(0), help="exit with code 1 above this mean gap"
    )
    return parser


def _add_push(push: argparse.ArgumentParser) -> None:
    push.add_argument("run_dir", metavar="RUN", help="run directory")
    add_sharing_arguments(push)
    push.add_argument(
        "--base-model", metavar="ORG/NAME", help="if the run began with a folder; or `none`"
    )
    push.add_argument(
        "--dataset", action="append", default=[], metavar="ORG/NAME",
        help="data on the Hub that it learnt from (repeatable)",
    )  # fmt: skip
    which = push.add_mutually_exclusive_group()
    which.add_argument(
        "--step", type=whole(0), help="step of the checkpoint; default: the last weights"
    )
    which.add_argument("--best", action="store_true", help="the best by evaluation")


def _add_page_options(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument("--pages", required=required, help="bench folder or page pairs")
    parser.add_argument("--limit", type=positive, default=16, help="pages used (default 16)")
    parser.add_argument("--longest-side", type=positive, default=1288, help="pixels (default 1288)")
    parser.add_argument("--max-tokens", type=positive, default=1024, help="per page (default 1024)")
    parser.add_argument("--prompt", default="olmrl-v1", help="prompt name (default olmrl-v1)")
    parser.add_argument("--dtype", choices=get_args(Dtype), default="bfloat16")


if __name__ == "__main__":
    sys.exit(main())
