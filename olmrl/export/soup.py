"""Model soups (Wortsman et al., arXiv 2203.05482): the mean of several models' weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from olmrl import storage
from olmrl.checkpoint.manifest import CheckpointError, read_json
from olmrl.export import weights
from olmrl.export.requests import refuse_full_folder, shares
from olmrl.export.weights import ModelFolder, ShardWriter
from olmrl.models import weight_files
from olmrl.models.weight_files import TOKENIZER
from olmrl.progress import track


def soup(
    sources: Sequence[str], out: str, source_weights: Sequence[float] | None = None
) -> dict[str, float]:
    """Average models into a new model folder, tensor by tensor.

    Sums are float32, results in the first model's dtype. Integer tensors must be equal. Config and
    processor come from the first model.

    Args:
        sources: model folders with equal tensor names, shapes and dtypes, in any shard layout.
        out: new folder; paths may be remote.
        source_weights: share of each source, summing to 1; None: uniform.

    Returns:
        Relative distance of each source to the average, ||source - mean|| / ||mean||.

    Raises:
        CheckpointError: damaged or mismatched models (names the first differing tensor).
    """
    parts_of = shares(len(sources), source_weights)
    refuse_full_folder(out)
    folders = [ModelFolder(source) for source in sources]
    for other in folders[1:]:
        _check_alike(folders[0], other)
    folders[0].check_fits()
    distances = [0.0] * len(folders)
    norm = 0.0
    with weights.completed(out) as folder:
        with ShardWriter(folder) as writer:
            count = len(folders[0].entries)
            for name, first in track(folders[0].tensors(), "averaging tensors", count):
                parts = [first, *(other.read(name) for other in folders[1:])]
                if not first.is_floating_point():
                    _check_equal(name, parts, folders)
                    writer.add(name, first)
                    continue
                mean = torch.zeros(first.shape, dtype=torch.float32)
                for share, part in zip(parts_of, parts, strict=True):
                    mean.add_(part.float(), alpha=share)
                norm += mean.square().sum().item()
                for i, part in enumerate(parts):
                    distances[i] += (part.float() - mean).square().sum().item()
                writer.add(name, mean.to(first.dtype))
        weights.copy_companions(folders[0].path, folder)
        storage.write_json(storage.join(folder, weight_files.CONFIG), folders[0].config)
    return {
        source: math.sqrt(distance / norm) if norm else 0.0
        for source, distance in zip(sources, distances, strict=True)
    }


def _check_alike(first: ModelFolder, other: ModelFolder) -> None:
    for key in ("model_type", "architectures"):
        ours, theirs = first.config.get(key), other.config.get(key)
        if ours != theirs:
            raise CheckpointError(
                f"{other.path}: its {key} is {theirs}, that of {first.path} {ours}"
            )
    if _tokens(first) != (_tokens(other) or _tokens(first)):
        raise CheckpointError(
            f"{other.path}: its tokenizer has other tokens than that of {first.path}, so their "
            "weights mean different things"
        )
    if "quantization_config" in first.config or "quantization_config" in other.config:
        raise CheckpointError("soup: average before quantising; one of the models is quantised")
    for name, entry in first.entries.items():
        if name not in other.entries:
            raise CheckpointError(f"{other.path}: lacks tensor {name} of {first.path}")
        theirs = other.entries[name]
        if (theirs.shape, theirs.dtype) != (entry.shape, entry.dtype):
            raise CheckpointError(
                f"{other.path}: tensor {name} is {theirs.dtype} {list(theirs.shape)}, "
                f"in {first.path} {entry.dtype} {list(entry.shape)}"
            )
    for name in other.entries:
        if name not in first.entries:
            raise CheckpointError(f"{first.path}: lacks tensor {name} of {other.path}")


def _tokens(folder: ModelFolder) -> tuple[Any, ...]:
    """What stands for what in a model's text; empty if the folder has no tokenizer.json."""
    path = storage.join(folder.path, TOKENIZER)
    if not storage.exists(path):
        return ()
    tokenizer = read_json(path)
    try:
        added = [(token["id"], token["content"]) for token in tokenizer["added_tokens"]]
        return tokenizer["model"]["vocab"], added
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged (no vocabulary)") from error


def _check_equal(name: str, parts: list[torch.Tensor], folders: list[ModelFolder]) -> None:
    for part, folder in zip(parts[1:], folders[1:], strict=True):
        if not torch.equal(part, parts[0]):
            raise CheckpointError(
                f"{folder.path}: integer tensor {name} differs from {folders[0].path}; "
                "integers cannot be averaged"
            )
