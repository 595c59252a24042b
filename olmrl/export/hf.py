"""A run's checkpoint as a model folder that transformers and vLLM load.

Tensors stream from the shards to safetensors batch by batch; adapters are merged on the way
(W + alpha / rank * B A, Hu et al., arXiv 2106.09685). Config and processor are those of the model
the run started from, byte for byte.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from olmrl import storage
from olmrl.checkpoint import manifest, shards
from olmrl.checkpoint.folder import CheckpointFolder
from olmrl.checkpoint.manifest import Checkpoint, CheckpointError
from olmrl.config.load import parse_yaml
from olmrl.config.schema import SftEvaluationConfig
from olmrl.export import weights
from olmrl.export.card import model_card
from olmrl.export.weights import ShardWriter
from olmrl.models import adapters, weight_files
from olmrl.progress import track

CHECKPOINTS = "checkpoints"
CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
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
        CheckpointError: one is missing, left over or of another shape (names the first).
    """
    known = weights.known_family(config, weight_files.CONFIG)
    with torch.device("meta"):
        model: Any = known.model_class()(known.config_class().from_dict(config))
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    saved = {
        adapters.plain_name(name.removeprefix(_MODEL)): shape
        for name, shape in shards.saved_shapes(checkpoint.path).items()
        if name.startswith(_MODEL) and not adapters.is_adapter(name)
    }
    if known.shape(config).tied:
        saved.pop("lm_head.weight", None)
        expected.pop("lm_head.weight", None)
    for name, shape in expected.items():
        if saved.get(name) != shape:
            found = f"is {list(saved[name])}" if name in saved else "is missing"
            raise CheckpointError(
                f"{checkpoint.path}: tensor {name} {found}, the model's config expects "
                f"{list(shape)}; another base model?"
            )
    for name in saved:
        if name not in expected:
            raise CheckpointError(f"{checkpoint.path}: tensor {name} is not in the base model")


def run_config(run_dir: str) -> dict[str, Any]:
    """Read the resolved configuration of a run directory.

    Raises:
        CheckpointError: not a run directory.
    """
    path = storage.join(run_dir, CONFIG)
    if not storage.exists(path):
        raise CheckpointError(f"{run_dir}: not a run directory (no {CONFIG})")
    config = parse_yaml(storage.read_text(path), path)
    if not isinstance(config.get("model"), dict) or "path" not in config["model"]:
        raise CheckpointError(f"{path}: has no model.path")
    return config


def best_mode(config: dict[str, Any]) -> Literal["min", "max"]:
    """Whether a run's best checkpoint has the smallest or the largest score.

    Args:
        config: resolved configuration of an SFT run, or of a GRPO run, whose scores are rewards.
    """
    evaluation = config.get("evaluation", {})
    if "best_metric" not in evaluation:
        return "max"
    return SftEvaluationConfig(
        best_metric=evaluation["best_metric"], best_mode=evaluation["best_mode"]
    ).mode


def choose(run_dir: str, step: int | None = None, best: bool = False) -> Checkpoint:
    """Open the checkpoint of a step, the best one, or the newest.

    Raises:
        CheckpointError: there is none.
    """
    store = CheckpointFolder(
        storage.join(run_dir, CHECKPOINTS), best_mode=best_mode(run_config(run_dir))
    )
    if step is not None:
        return store.at(step)
    found = store.best() if best else store.newest()
    if found is None:
        which = "scored" if best else "complete"
        raise CheckpointError(f"{run_dir}: no {which} checkpoint below {CHECKPOINTS}/")
    return found


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
        weights.refuse_full_folder(out)
    config = run_config(run_dir)
    checkpoint = choose(run_dir, step, best)
    source = weights.local_source(base or config["model"]["path"])
    description = manifest.read_json(storage.join(source, weight_files.CONFIG))
    known = weights.known_family(description, source)
    check_fits(checkpoint, description)
    card = model_card(
        config,
        checkpoint.step,
        storage.join(run_dir, METRICS),
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
        write(out)
    return checkpoint.step


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
