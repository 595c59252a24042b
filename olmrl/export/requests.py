"""What can be refused of a request before torch and a model are loaded: all of its arguments."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from olmrl import storage
from olmrl.checkpoint.manifest import CheckpointError
from olmrl.data.prompts import load_prompt
from olmrl.errors import check_all
from olmrl.export.chosen import choose, run_config
from olmrl.export.recipes import recipe_of
from olmrl.export.sharing import TOKENIZERS, base_of
from olmrl.models.places import refuse_no_folder
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
    storage.check_target(out)
    for name in (SINGLE, INDEX, CONFIG):
        if storage.exists(storage.join(out, name)):
            raise CheckpointError(f"{out}: already holds a model ({name}); choose an empty folder")


def shares(count: int, given: Sequence[float] | None) -> list[float]:
    """Share of each of several models in their average, summing to 1.

    Raises:
        CheckpointError: another number of shares, or another sum.
    """
    if count < 2:
        raise CheckpointError(
            f"needs at least two models, and a new folder after them; got {count}"
        )
    if given is None:
        return [1.0 / count] * count
    if len(given) != count:
        raise CheckpointError(f"--weights: {len(given)} weights for {count} models")
    if not all(math.isfinite(w) for w in given) or not math.isclose(sum(given), 1.0, abs_tol=1e-3):
        raise CheckpointError(f"--weights: the weights must sum to 1, got {list(given)}")
    return list(given)


def _hf(options: argparse.Namespace) -> Checks:
    yield partial(choose, options.run_dir, options.step, options.best)
    yield partial(_is_new, options.out)


def _soup(options: argparse.Namespace) -> Checks:
    for model in options.models:
        yield partial(_is_model, model)
    yield partial(_refuse_twice, options.models)
    yield partial(_has_tokenizer, options.models[0])
    yield partial(shares, len(options.models), options.weights)
    yield partial(_is_new, options.out)


def _fp8(options: argparse.Namespace) -> Checks:
    yield partial(_is_model, options.model)
    yield partial(_has_tokenizer, options.model)
    yield partial(_is_new, options.out)
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
    yield partial(refuse_no_folder, "", options.model)
    if os.path.isdir(options.model):
        yield partial(_is_model, options.model)
    yield from _pages(options)


def _pages(options: argparse.Namespace) -> Checks:
    if options.pages:
        yield partial(_is_folder, "--pages", options.pages)
    yield partial(load_prompt, options.prompt)


def _is_model(model: str) -> None:
    if not _is_there(model, CONFIG):
        raise CheckpointError(f"{model}: not a model folder (no {CONFIG})")


def _has_tokenizer(model: str) -> None:
    if not _is_there(model, CONFIG):
        return  # said already
    if not any(all(_is_there(model, name) for name in needed) for needed in TOKENIZERS):
        raise CheckpointError(
            f"{model}: has no tokenizer.json, and so the new model would have none; put it there"
        )


def _is_there(folder: str, name: str) -> bool:
    return storage.exists(storage.join(folder, name))


def _refuse_twice(models: Sequence[str]) -> None:
    places = [model if storage.is_remote(model) else os.path.realpath(model) for model in models]
    for number, place in enumerate(places):
        if place in places[:number] and _is_there(place, CONFIG):
            raise CheckpointError(
                f"{models[number]}: is named twice; name different models, and with --weights how "
                "much each counts"
            )


def _is_new(out: str) -> None:
    refuse_full_folder(out)
    if storage.is_remote(out) or not os.path.isdir(out):
        return
    held = sorted(name for name in os.listdir(out) if not name.startswith("."))
    if held:
        raise CheckpointError(f"{out}: is not empty (it holds {held[0]}); name a new folder")


def _is_folder(option: str, place: str) -> None:
    if not storage.exists(place):
        raise CheckpointError(f"{option} {place}: no such folder")
    if os.path.isfile(place):
        raise CheckpointError(f"{option} {place}: is a file; name a bench folder or page pairs")


def _calibrates(recipe: str, pages: str | None) -> None:
    if recipe_of(recipe).needs_pages and not pages:
        raise CheckpointError(f"recipe {recipe}: has static scales; give it --pages")


def _refuse_remote(run_dir: str) -> None:
    raise CheckpointError(f"{run_dir}: push needs the run on this machine; copy it first")
