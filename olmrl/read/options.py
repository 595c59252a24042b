"""Options that `olmrl read` and `bench run` share."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, get_args
from urllib.parse import urlsplit

from olmrl.arguments import positive
from olmrl.config.schema import Dtype
from olmrl.data.prompts import load_prompt
from olmrl.export.chosen import check_checkpoint
from olmrl.mix.api import refuse_key_in
from olmrl.models.places import refuse_no_folder

MAX_TOKENS = 8000
"""Limit per answer, unless asked otherwise."""


def reading_checks(options: argparse.Namespace) -> Iterator[Callable[[], object]]:
    """For `errors.check_all`: what can be judged of the options before anything is loaded."""
    yield partial(_check_model, options)
    if options.prompt is not None:
        yield partial(load_prompt, options.prompt)
    if options.base_url is not None:
        yield partial(_check_url, options.base_url)
    yield partial(check_number, "--temperature", options.temperature, at_least=True)
    yield partial(check_number, "--kv-cache-gb", options.kv_cache_gb, at_least=False)
    if options.gpus is not None:
        yield partial(check_number, "--gpus", options.gpus, at_least=True)
    if options.served_name is not None and options.base_url is None:
        yield partial(_needs_server, "--served-name")
    starts_ray = options.base_url is None and (os.environ.get("RAY_ADDRESS") or "local") == "local"
    if options.gpus and starts_ray:
        yield partial(_check_gpus, options.gpus * (options.workers or 1))


def _check_model(options: argparse.Namespace) -> None:
    model = options.model
    if options.base_url is not None and not os.path.exists(model):
        return  # whatever the server calls it
    refuse_no_folder("--model", model)
    if options.checkpoint is not None:
        check_checkpoint(model, options.checkpoint)


def _needs_server(option: str) -> None:
    raise ValueError(f"{option} is what a server calls the model; give --base-url with it")


def _check_gpus(wanted: int) -> None:
    """Refuse more GPUs than this machine has, where Ray will be started on it."""
    # Deferred: only who asks for GPUs needs to look at them.
    from olmrl.doctor.facts import usable_gpus  # noqa: PLC0415

    here = usable_gpus()
    if wanted > here:
        raise ValueError(
            f"--gpus: the engines would take {wanted} GPUs, and this machine has {here} to use "
            "(nvidia-smi, CUDA_VISIBLE_DEVICES); lower --gpus or --workers, or set RAY_ADDRESS to "
            "a cluster"
        )


def _check_url(url: str) -> None:
    refuse_key_in(url)
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"--base-url {url}: must begin with http:// or https://")
    try:
        parts = urlsplit(url)
        whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or re.search(r"\s", url):
        raise ValueError(f"--base-url {url}: must name a host, as http://host:8000/v1 does")


def check_number(option: str, value: float, *, at_least: bool) -> None:
    """0 itself is allowed where it is the least."""
    if not math.isfinite(value) or value < 0 or (value == 0 and not at_least):
        raise ValueError(f"{option} is {value:g}, must be {'>=' if at_least else '>'} 0")


def checkpoint(text: str) -> Literal["best", "last"] | int:
    """An argparse type: `best`, `last` or a step."""
    if text == "best":
        return "best"
    if text == "last":
        return "last"
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither `best`, `last` nor a step")
    return int(text)


def add_reading_arguments(parser: argparse.ArgumentParser, *, whole: bool) -> None:
    """Add what says how pages are read, and by what.

    Args:
        parser: of the command.
        whole: whether pages are read as released models read them unless asked otherwise: several
            attempts, turned upright.
    """
    parser.add_argument(
        "--model",
        required=True,
        help="run directory, model folder or name on the Hub; with --base-url, the server's name",
    )
    parser.add_argument(
        "--checkpoint",
        type=checkpoint,
        metavar="best|last|STEP",
        help="of a run; default: the best by evaluation, or the newest if none was scored",
    )
    how = parser.add_argument_group("how pages are read")
    how.add_argument("--prompt", help="olmrl-v1, olmocr-v4 or file:PATH; default: the model's own")
    how.add_argument("--longest-side", type=positive, help="pixels; default: the model's own")
    how.add_argument("--max-tokens", type=positive, help=f"limit per answer; default: {MAX_TOKENS}")
    how.add_argument("--max-model-len", type=positive, help="limit of prompt and answer together")
    how.add_argument(
        "--ladder",
        action=argparse.BooleanOptionalAction,
        default=whole,
        help="up to eight attempts at rising temperatures, until an answer is whole",
    )
    how.add_argument("--temperature", type=float, default=0.0, help="without ladder; 0 is greedy")
    how.add_argument(
        "--rotate",
        action=argparse.BooleanOptionalAction,
        default=whole,
        help="turn pages that the answer calls rotated, and read them again",
    )
    by = parser.add_argument_group("by what")
    by.add_argument("--workers", type=positive, help="engines; default: all GPUs, else one")
    by.add_argument("--gpus", type=int, help="per engine; default: 1 if there is any")
    by.add_argument("--engine", choices=("vllm", "hf"), help="default: the run's, else vllm")
    by.add_argument("--dtype", choices=get_args(Dtype), help="default: the run's, else bfloat16")
    by.add_argument("--kv-cache-gb", type=float, default=1.0, help="per engine, on CPU")
    by.add_argument("--base-url", help="an OpenAI-compatible server, e.g. http://host:8000/v1")
    by.add_argument("--served-name", help="the model's name there; default: --model")
    by.add_argument(
        "--api-key-env", default="OPENAI_API_KEY", help="variable with the server's key"
    )
    by.add_argument("--concurrency", type=positive, default=32, help="requests to it at a time")
    by.add_argument("--tries", type=positive, default=10, help="per request, with pauses")
