"""What can be refused of a request before torch and a model are loaded: all of its arguments."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from olmrl import storage
from olmrl.checkpoint.manifest import CheckpointError
from olmrl.data.prompts import load_prompt
from olmrl.errors import check_all
from olmrl.export.chosen import choose, run_config
from olmrl.export.recipes import recipe_of
from olmrl.export.sharing import base_of
from olmrl.models.weight_files import CONFIG, INDEX, SINGLE
from olmrl.share.cards import check_repo
from olmrl.share.options import sharing_checks

Checks = Iterator[Callable[[], object]]


def check(options: argparse.Namespace) -> None:
    """Look at every argument of a verb of `olmrl checkpoint`.

    Raises:
        ValueError: all that is wrong with them.
    """
    verbs = {"hf": _hf, "soup": _soup, "fp8": _fp8, "push": _push, "parity": _parity}
    check_all(*verbs[options.verb](options))


def refuse_full_folder(out: str) -> None:
    """Refuse a folder with a model, so that a new model is never mixed into an old one.

    Raises:
        CheckpointError: the folder already has a model.
    """
    storage.refuse_hub(out)
    for name in (SINGLE, INDEX, CONFIG):
        if storage.exists(storage.join(out, name)):
            raise CheckpointError(f"{out}: already holds a model ({name}); choose an empty folder")


def shares(count: int, given: Sequence[float] | None) -> list[float]:
    """Share of each of several models in their average, summing to 1.

    Raises:
        CheckpointError: another number of shares, or another sum.
    """
    if count < 2:
        raise CheckpointError(f"soup: needs at least two models, got {count}")
    if given is None:
        return [1.0 / count] * count
    if len(given) != count:
        raise CheckpointError(f"soup: {len(given)} weights for {count} models")
    if not all(math.isfinite(w) for w in given) or not math.isclose(sum(given), 1.0, abs_tol=1e-3):
        raise CheckpointError(f"soup: weights must sum to 1, got {list(given)}")
    return list(given)


def _hf(options: argparse.Namespace) -> Checks:
    yield partial(choose, options.run_dir, options.step, options.best)
    yield partial(refuse_full_folder, options.out)


def _soup(options: argparse.Namespace) -> Checks:
    for model in options.models:
        yield partial(_is_model, model)
    yield partial(shares, len(options.models), options.weights)
    yield partial(refuse_full_folder, options.out)


def _fp8(options: argparse.Namespace) -> Checks:
    yield partial(_is_model, options.model)
    yield partial(refuse_full_folder, options.out)
    yield partial(_calibrates, options.recipe, options.pages)
    yield from _pages(options)


def _push(options: argparse.Namespace) -> Checks:
    if storage.is_remote(options.run_dir):
        yield partial(_refuse_remote, options.run_dir)
    else:
        yield lambda: base_of(run_config(options.run_dir)["model"]["path"], options.base_model)
        if options.best or options.step is not None:
            yield partial(choose, options.run_dir, options.step, options.best)
    yield from sharing_checks(options)
    for name in options.dataset:
        yield partial(check_repo, name)


def _parity(options: argparse.Namespace) -> Checks:
    if options.model.startswith(("/", ".", "~")):  # else it may be a name on the Hub
        yield partial(_is_model, options.model)
    yield from _pages(options)


def _pages(options: argparse.Namespace) -> Checks:
    if options.pages:
        yield partial(_is_folder, "--pages", options.pages)
    yield partial(load_prompt, options.prompt)


def _is_model(model: str) -> None:
    if not storage.exists(storage.join(model, CONFIG)):
        raise CheckpointError(f"{model}: not a model folder (no {CONFIG})")


def _is_folder(option: str, place: str) -> None:
    if not storage.exists(place):
        raise CheckpointError(f"{option} {place}: no such folder")


def _calibrates(recipe: str, pages: str | None) -> None:
    if recipe_of(recipe).needs_pages and not pages:
        raise CheckpointError(f"recipe {recipe}: has static scales; give it --pages")


def _refuse_remote(run_dir: str) -> None:
    raise CheckpointError(f"{run_dir}: push needs the run on this machine; copy it first")
