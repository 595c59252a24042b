"""Model folders in safetensors form, read and written one tensor at a time, local or remote.

A 7B model is never in memory as a whole: `ModelFolder` reads single tensors by name from any shard
layout, `ShardWriter` writes shards as they fill up.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import save_file

from olmrl import storage
from olmrl.checkpoint.manifest import CheckpointError, read_json
from olmrl.errors import first_line, system_error
from olmrl.models import weight_files
from olmrl.models.family import Family
from olmrl.models.files import model_config
from olmrl.models.registry import family
from olmrl.models.weight_files import CONFIG, INDEX, SINGLE, StoredTensor, WeightsError
from olmrl.progress import waiting
from olmrl.scratch import Scratch

SHARD_BYTES = 4 * 2**30
_UNFINISHED = ".unfinished"
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
"""By `model.dtype`."""
_STORED_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A tensor of a model folder."""

    stored: StoredTensor
    """Its place in the files."""
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.stored.shape


class ModelFolder:
    """A Hugging Face model folder; reads tensors by name."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the headers of all shards.

        Raises:
            CheckpointError: there is no model, or a shard is missing or truncated (names the file).
        """
        self.path = os.fspath(path)
        self.config = self._read_config()
        try:
            stored = weight_files.stored_tensors(self.path)
        except WeightsError as error:
            raise CheckpointError(str(error)) from error
        self.entries = {n: TensorEntry(t, _STORED_DTYPES[t.dtype]) for n, t in stored.items()}

    def read(self, name: str) -> torch.Tensor:
        """Read one tensor to host memory.

        Raises:
            CheckpointError: there is no tensor of that name, or it holds NaN or infinite numbers.
        """
        if name not in self.entries:
            raise CheckpointError(f"{self.path}: has no tensor {name}")
        entry = self.entries[name]
        place = entry.stored
        if place.end == place.start:
            return torch.empty(entry.shape, dtype=entry.dtype)
        path = storage.join(self.path, place.file)
        data = bytearray(weight_files.read_range(path, place.start, place.end))
        tensor = torch.frombuffer(data, dtype=entry.dtype).reshape(entry.shape)
        if entry.stored.dtype in weight_files.TRAINABLE and not tensor.isfinite().all():
            raise CheckpointError(
                f"{path}: {name} holds NaN or infinite numbers; its training diverged, or the file "
                "is damaged"
            )
        return tensor

    def check_fits(self) -> None:
        """See that the tensors are plain weights of the model that config.json describes.

        Raises:
            CheckpointError: quantised, or some are missing, left over, or of another shape or kind
                (names the first).
        """
        if "quantization_config" in self.config or "compression_config" in self.config:
            raise CheckpointError(f"{self.path}: is quantised already")
        known = known_family(self.config, self.path)
        stored = {known.module_name(name): name for name in self.entries}
        shapes = {
            name: self.entries[given].shape
            for name, given in stored.items()
            if not re.fullmatch(known.left_out, given)
        }
        problem = unlike(shapes, self.config, known)
        if problem is not None:
            raise CheckpointError(f"{self.path}: does not fit its own config.json: {problem}")
        for name, entry in self.entries.items():
            if entry.stored.dtype not in weight_files.TRAINABLE:
                raise CheckpointError(
                    f"{self.path}: tensor {name} is stored as {entry.stored.dtype}, which is no "
                    f"plain weight ({', '.join(weight_files.TRAINABLE)})"
                )

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield (name, tensor) in the order of the files."""
        for name in self.entries:
            yield name, self.read(name)

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(e.stored.end - e.stored.start for e in self.entries.values())

    def _read_config(self) -> dict[str, Any]:
        path = storage.join(self.path, CONFIG)
        if not storage.exists(path):
            raise CheckpointError(f"{self.path}: not a model folder (no {CONFIG})")
        return read_json(path)


class ShardWriter:
    """Writes `model.safetensors`, or numbered shards and their index, into a folder.

    with ShardWriter(out) as writer:
        writer.add(name, tensor)
    """

    def __init__(self, out: str | os.PathLike[str], shard_bytes: int = SHARD_BYTES) -> None:
        """Prepare; a shard is written when the next tensor would not fit.

        Raises:
            CheckpointError: the folder already holds a model.
        """
        self._out = os.fspath(out)
        self._shard_bytes = shard_bytes
        self._waiting: dict[str, torch.Tensor] = {}
        self._waiting_bytes = 0
        self._staging = (
            Scratch("shards")
            if storage.is_remote(self._out)
            else tempfile.TemporaryDirectory(prefix=".shards-", dir=_made(self._out))
        )
        self._shards: list[list[str]] = []
        self._total = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Add a tensor; it is written now or later."""
        size = tensor.numel() * tensor.element_size()
        if self._waiting and self._waiting_bytes + size > self._shard_bytes:
            self._flush()
        self._waiting[name] = tensor.detach().cpu().contiguous()
        self._waiting_bytes += size
        self._total += size

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._staging:
            if kind is None:
                self._finish()

    def _flush(self) -> None:
        path = Path(self._staging.name) / f"{len(self._shards)}.safetensors"
        try:
            save_file(self._waiting, path, metadata={"format": "pt"})
        except SafetensorError as error:
            known = system_error(error, self._out.removesuffix(f"/{_UNFINISHED}"))
            if known is not None:
                raise known from error
            raise CheckpointError(f"{self._out}: the model cannot be written ({error})") from error
        self._shards.append(list(self._waiting))
        self._waiting, self._waiting_bytes = {}, 0

    def _finish(self) -> None:
        if self._waiting:
            self._flush()
        count = len(self._shards)
        weight_map = {}
        for number, names in enumerate(self._shards):
            file = SINGLE if count == 1 else f"model-{number + 1:05}-of-{count:05}.safetensors"
            _move(Path(self._staging.name) / f"{number}.safetensors", self._out, file)
            weight_map.update(dict.fromkeys(names, file))
        if count > 1:
            storage.write_json(
                storage.join(self._out, INDEX),
                {"metadata": {"total_size": self._total}, "weight_map": weight_map},
            )


@contextmanager
def completed(out: str) -> Iterator[str]:
    """Give a folder to fill with a model; its files reach `out` once all are there, or never.

    Of a remote folder it is `out` itself, where a model counts once its config.json is there.
    """
    if storage.is_remote(out):
        yield out
        return
    target = Path(out)
    is_ours = not target.exists()
    fresh = target / _UNFINISHED
    shutil.rmtree(fresh, ignore_errors=True)  # of a call that was killed
    try:
        yield str(fresh)
        for path in sorted(fresh.iterdir(), key=lambda p: p.name == CONFIG):
            path.replace(target / path.name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if is_ours and target.is_dir() and not any(target.iterdir()):
            target.rmdir()


def _made(folder: str) -> str:
    Path(folder).mkdir(parents=True, exist_ok=True)
    return folder


def _move(staged: Path, out: str, file: str) -> None:
    target = storage.join(out, file)
    if storage.is_remote(out):
        fs, inner = storage.to_write(target)
        with storage.named(target):
            fs.put_file(str(staged), inner)
        staged.unlink()
    else:
        staged.replace(target)


def local_source(model: str) -> str:
    """The folder with a model's config and processor, fetched from the Hub if `model` is a name.

    Raises:
        CheckpointError: neither a folder nor a name that can be fetched.
    """
    if storage.exists(storage.join(model, CONFIG)):
        return model
    try:
        return str(snapshot_download(model, allow_patterns=[CONFIG, *weight_files.COMPANIONS]))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{model}: neither a model folder nor a model that can be fetched by name ({reason})"
        ) from error


def whole_source(model: str) -> str:
    """The folder of a model with its weights, fetched from the Hub if `model` is a name.

    Raises:
        ValueError: no folder, and no model that can be fetched, or of no family that olmrl knows.
    """
    if storage.exists(storage.join(model, CONFIG)):
        return model
    model_config(model)  # says what is wrong with a name before gigabytes come
    wanted = [CONFIG, INDEX, "*.safetensors", *weight_files.COMPANIONS]
    with waiting(f"fetching {model} from the Hub"):
        return str(snapshot_download(model, allow_patterns=wanted))


def copy_companions(source: str, out: str) -> None:
    """Copy processor, tokenizer, chat template and generation config, but no code."""
    for name in weight_files.COMPANIONS:
        path = storage.join(source, name)
        if storage.exists(path):
            storage.write_bytes(storage.join(out, name), storage.read_bytes(path))


def unlike(
    stored: Mapping[str, tuple[int, ...]], config: dict[str, Any], known: Family
) -> str | None:
    """In what tensors are not those of the model that a config describes; None if in nothing.

    Args:
        stored: shapes by module path; the answer names them as published files do.
        config: of transformers.
        known: its family.
    """
    try:
        with torch.device("meta"):
            model: Any = known.model_class()(known.config_class().from_dict(config))
    except Exception as error:  # transformers' own checks raise what they run into
        return f"transformers cannot make that model ({first_line(error)})"
    wanted = {
        known.published_name(name): tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
    }
    found = {known.published_name(name): shape for name, shape in stored.items()}
    if known.shape(config).tied:
        wanted.pop("lm_head.weight", None)
        found.pop("lm_head.weight", None)
    return weight_files.difference(
        wanted.keys() - found.keys(),
        found.keys() - wanted.keys(),
        [(n, found[n], wanted[n]) for n in wanted.keys() & found.keys() if found[n] != wanted[n]],
    )


def known_family(config: dict[str, Any], source: str) -> Family:
    """The family of a model config.

    Raises:
        CheckpointError: one that olmrl does not support; names the source.
    """
    try:
        return family(config.get("model_type"), source)
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def with_dtype(config: dict[str, Any], dtype: str) -> dict[str, Any]:
    """A copy of a model config with another weight precision, under whichever key it uses."""
    changed = {
        key: with_dtype(value, dtype) if isinstance(value, dict) else value
        for key, value in config.items()
    }
    return {k: dtype if k in ("dtype", "torch_dtype") else v for k, v in changed.items()}
