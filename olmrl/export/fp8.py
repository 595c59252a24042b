"""8-bit models for serving, in the compressed-tensors format that vLLM reads.

Data-free recipes stream: one tensor in memory, then the next, so a 7B model needs a few GiB.
Recipes with static scales first run calibration pages through the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from olmrl import storage
from olmrl.checkpoint.manifest import CheckpointError
from olmrl.export import weights
from olmrl.export.emulate import ProbedModel, Ranges, TokenScores
from olmrl.export.recipes import BLOCK, Recipe, quantization_config, recipe_of
from olmrl.export.requests import refuse_full_folder
from olmrl.export.rounding import (
    FP8,
    Codes,
    block_codes,
    channel_codes,
    decode,
    relative_error,
    static_scale,
)
from olmrl.export.samples import CalibrationPages, PageTokens, load_samples
from olmrl.export.weights import ModelFolder, ShardWriter
from olmrl.models import weight_files
from olmrl.models.family import Family
from olmrl.progress import track

_SHARD_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Gap:
    """Quantised against unquantised, on the same tokens of the same pages."""

    tokens: int
    mean: float
    """Mean |log-prob difference|."""
    largest: float
    same_top: float
    """Share of positions where both would choose the same token."""


@dataclass(frozen=True, slots=True)
class Report:
    """What quantising did."""

    recipe: str
    bytes_before: int
    bytes_after: int
    errors: dict[str, float]
    """||rounded - weight|| / ||weight|| of each quantised tensor."""
    gap: Gap | None
    """None without pages."""


def quantise(
    model: str,
    out: str,
    recipe_name: str = "w8a8_dynamic",
    *,
    pages: CalibrationPages | None = None,
    dtype: str = "bfloat16",
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Write an 8-bit copy of a model.

    Args:
        model: model folder in safetensors form, local or remote.
        out: new folder.
        recipe_name: a key of `recipes.RECIPES`.
        pages: measure the log-prob gap, and calibrate the recipes that need it. The model must then
            be local, and fit in memory once.
        dtype: precision of what stays unquantised, and of the gap's reference.
        say: is told of bad pages, which are left out.

    Raises:
        CheckpointError: a damaged, quantised or unsuitable model, or no pages where needed.
    """
    recipe = recipe_of(recipe_name)
    refuse_full_folder(out)
    folder = ModelFolder(model)
    known = weights.known_family(folder.config, folder.path)
    folder.check_fits()
    described = quantization_config(recipe, known)
    targets = _targets(folder, recipe, known)
    if recipe.needs_pages and pages is None:
        raise CheckpointError(f"recipe {recipe_name}: has static scales; give it --pages")
    samples = load_samples(pages, model, say) if pages else []
    probe = ProbedModel(model, weights.DTYPES[dtype]) if pages else None
    ranges = probe.observe(samples) if probe and recipe.needs_pages else None
    exact = [probe.score(s) for s in _pages(samples, "exact")] if probe else []
    errors: dict[str, float] = {}
    with weights.completed(out) as fresh:
        with ShardWriter(fresh, _SHARD_BYTES) as writer:
            for name, tensor in track(folder.tensors(), "rounding tensors", len(folder.entries)):
                if name in targets:
                    quantised = _codes(tensor, recipe)
                    errors[name] = relative_error(tensor, decode(quantised))
                    writer.add(name, quantised.codes)
                    writer.add(f"{name}_scale", quantised.scale)
                else:
                    writer.add(name, _keep(tensor, weights.DTYPES[dtype]))
            for name, scale in _static_scales(targets, recipe, ranges, known):
                writer.add(name, torch.tensor([scale], dtype=torch.float32))
        weights.copy_companions(model, fresh)
        # config.json comes last: without it a remote folder does not count as a model.
        config = weights.with_dtype(folder.config, dtype) | {"quantization_config": described}
        storage.write_json(storage.join(fresh, weight_files.CONFIG), config)
    rounded = ModelFolder(out)
    gap = None
    if probe:
        probe.become(rounded, recipe, ranges)
        gap = compare(exact, [probe.score(s) for s in _pages(samples, "rounded")])
    return Report(recipe_name, folder.num_bytes, rounded.num_bytes, errors, gap)


def compare(exact: list[TokenScores], rounded: list[TokenScores]) -> Gap:
    """Compare what two models make of the same samples."""
    before = np.concatenate([s.logprobs for s in exact])
    after = np.concatenate([s.logprobs for s in rounded])
    same = np.concatenate([a.top_ids == b.top_ids for a, b in zip(exact, rounded, strict=True)])
    gaps = np.abs(before - after)
    return Gap(len(gaps), float(gaps.mean()), float(gaps.max()), float(same.mean()))


def _pages(samples: Sequence[PageTokens], which: str) -> Iterator[PageTokens]:
    return track(samples, f"reading pages, {which}", len(samples))


def _targets(folder: ModelFolder, recipe: Recipe, known: Family) -> set[str]:
    targets = {name for name in folder.entries if known.is_quantisable(name)}
    if not targets:
        raise CheckpointError(f"{folder.path}: has none of the linear layers of {known.title}")
    for name in sorted(targets) if recipe.blocks else ():
        shape = folder.entries[name].shape
        if any(side % BLOCK for side in shape):
            raise CheckpointError(
                f"{folder.path}: {name} has shape {list(shape)}; w8a8_block needs multiples of "
                f"{BLOCK}, use w8a8_dynamic"
            )
    return targets


def _codes(tensor: Tensor, recipe: Recipe) -> Codes:
    if recipe.blocks:
        return block_codes(tensor, BLOCK)
    return channel_codes(tensor, torch.int8 if recipe.number == "int" else FP8)


def _keep(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _static_scales(
    targets: set[str], recipe: Recipe, ranges: Ranges | None, known: Family
) -> Iterator[tuple[str, float]]:
    if ranges is None:
        return
    for name in sorted(targets):
        if recipe.activations == "tensor":
            number = torch.int8 if recipe.number == "int" else FP8
            largest = ranges.inputs[known.module_name(name)]
            yield name.replace(".weight", ".input_scale"), static_scale(largest, number)
        if recipe.kv_cache and name.endswith(".k_proj.weight"):
            attention = name.removesuffix(".k_proj.weight")
            layer = int(attention.rsplit(".", 2)[1])
            yield f"{attention}.k_scale", static_scale(ranges.keys[layer], FP8)
            yield f"{attention}.v_scale", static_scale(ranges.values[layer], FP8)
