"""A run's checkpoint as a model folder that transformers and vLLM load.

Tensors stream from the shards to safetensors batch by batch; adapters are merged on the way
(W + alpha / rank * B A, Hu et al., arXiv 2106.09685). Config and processor are those of the model
the run started from, byte for byte.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from olmrl import storage
from olmrl.checkpoint import manifest, shards
from olmrl.checkpoint.manifest import Checkpoint, CheckpointError
from olmrl.export import weights
from olmrl.export.card import card_step, model_card
from olmrl.export.chosen import choose, run_config
from olmrl.export.requests import refuse_full_folder
from olmrl.export.weights import ShardWriter
from olmrl.models import adapters, weight_files
from olmrl.models.files import readme
from olmrl.progress import track

MODEL = "model"
"""Folder of a run's last weights."""
_MODEL = "model/"


def model_weights(
    checkpoint: Checkpoint, lora_scale: float | None = None
) -> Iterator[shards.Stored]:
    """Stream a checkpoint's weights under transformers' module names, adapters merged.

    Names and shapes do not depend on sharding, so any strategy can load them.

    Args:
        checkpoint: any complete one.
        lora_scale: alpha / rank of the run's adapters; None if it had none.

    Raises:
        CheckpointError: adapters without a scale.
    """
    names = [n for n in shards.saved_shapes(checkpoint.path) if n.startswith(_MODEL)]
    parts = {n for n in names if adapters.is_adapter(n)}
    if parts and lora_scale is None:
        raise CheckpointError(f"{checkpoint.path}: has adapters; their alpha / rank is needed")
    if not names:
        raise CheckpointError(f"{checkpoint.path}: has no model weights")
    low_rank: dict[str, dict[str, Tensor]] = {}
    for name, tensor in shards.stored(checkpoint.path, sorted(parts)):
        layer, part = adapters.adapter_part(name)
        low_rank.setdefault(layer, {})[part] = tensor
    for name, tensor in shards.stored(checkpoint.path, [n for n in names if n not in parts]):
        if adapters.is_adapted(name):
            low = low_rank[adapters.layer_of(name)]
            tensor = adapters.merged(tensor, low["A"], low["B"], lora_scale or 0.0)
        yield adapters.plain_name(name.removeprefix(_MODEL)), tensor


def check_fits(checkpoint: Checkpoint, config: dict[str, Any]) -> None:
    """Compare a checkpoint's tensors with the model that a config describes.

    Raises:
        CheckpointError: some are missing, left over or of another shape (names the first).
    """
    saved = {
        adapters.plain_name(name.removeprefix(_MODEL)): shape
        for name, shape in shards.saved_shapes(checkpoint.path).items()
        if name.startswith(_MODEL) and not adapters.is_adapter(name)
    }
    problem = weights.unlike(saved, config, weights.known_family(config, weight_files.CONFIG))
    if problem is not None:
        raise CheckpointError(
            f"{checkpoint.path}: does not fit the model's config.json: {problem}; another base "
            "model?"
        )


def export(
    run_dir: str,
    out: str,
    *,
    step: int | None = None,
    best: bool = False,
    base: str | None = None,
    dtype: str | None = None,
    replace: bool = False,
    shard_bytes: int = weights.SHARD_BYTES,
) -> int:
    """Write a run's checkpoint as a model folder with processor and model card.

    Args:
        run_dir: run directory.
        out: new folder, local or remote.
        step: which checkpoint; None: the newest, or the best by evaluation if `best`.
        best: see `step`.
        base: source of config and processor; None: the run's model.path.
        dtype: precision of the floating-point weights; None: the run's model.dtype.
        replace: replace the model at `out` (an earlier export) once the new one is complete; local
            folders only.
        shard_bytes: maximum size of one safetensors file.

    Returns:
        The step that was exported.

    Raises:
        CheckpointError: no such checkpoint, another model family, or weights that do not fit the
            config (names the first tensor).
    """
    if replace and storage.is_remote(out):
        raise CheckpointError(f"{out}: only a local model can be replaced")
    if not replace:
        refuse_full_folder(out)
    config = run_config(run_dir)
    checkpoint = choose(run_dir, step, best)
    source = weights.local_source(base or config["model"]["path"])
    description = manifest.read_json(storage.join(source, weight_files.CONFIG))
    known = weights.known_family(description, source)
    check_fits(checkpoint, description)
    card = model_card(
        config,
        checkpoint.step,
        run_dir,
        name=out.rstrip("/").rsplit("/", 1)[-1],
    )
    precision = dtype or config["model"].get("dtype", "bfloat16")
    lora = config["model"].get("lora")
    tensors = (
        (known.published_name(name), tensor.to(weights.DTYPES[precision]))
        for name, tensor in model_weights(
            checkpoint, lora["alpha"] / lora["rank"] if lora else None
        )
        if name != "lm_head.weight" or not known.shape(description).tied
    )

    count = sum(name.startswith(_MODEL) for name in shards.saved_shapes(checkpoint.path))

    def write(folder: str) -> None:
        with ShardWriter(folder, shard_bytes) as writer:
            for name, tensor in track(tensors, "writing tensors", count):
                writer.add(name, tensor)
        weights.copy_companions(source, folder)
        storage.write_text(storage.join(folder, "README.md"), card)
        # config.json comes last: without it a folder does not count as a model.
        described = weights.with_dtype(description, precision)
        storage.write_json(storage.join(folder, weight_files.CONFIG), described)

    if replace:
        _replace(Path(out), write)
    else:
        with weights.completed(out) as folder:
            write(folder)
    return checkpoint.step


def folder_of(run_dir: str, step: int, here: str, say: Callable[[str], None]) -> str:
    """The model folder of a run's checkpoint: the run's `model/` if it has that step.

    Args:
        run_dir: run directory, local or remote.
        step: of a complete checkpoint.
        here: local folder that takes the model where it has to be written first.
        say: prints a line.
    """
    final = os.path.join(run_dir, MODEL)
    if os.path.isdir(final) and card_step(readme(final)) == step:
        return final
    out = os.path.join(here, f"step-{step}")
    if not os.path.exists(os.path.join(out, weight_files.CONFIG)):
        say(f"writing step {step} of {run_dir} as a model to {out}")
        os.makedirs(here, exist_ok=True)
        export(run_dir, out, step=step, replace=True)
    return out


def _replace(target: Path, write: Callable[[str], None]) -> None:
    """Write a model next to the old one, then swap them."""
    fresh, old = (target.with_name(f".{target.name}.{kind}") for kind in ("new", "old"))
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    write(str(fresh))
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)
