"""The safetensors files of a model folder, by their headers alone: what is there, what is wrong.

File format: 8 bytes little-endian header length, JSON header (dtype, shape, byte range per tensor),
data. No torch, so that a run's checks cost milliseconds; folders may be remote.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from olmrl import storage

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
ADAPTER = "adapter_config.json"
COMPANIONS = (
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.json",
    "chat_template.jinja",
)
"""Files beside the weights that make a model usable: processor, tokenizer, chat template."""
_MAX_HEADER = 100 * 2**20
_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes of an element, by the format's name of its dtype."""
TRAINABLE = ("F64", "F32", "F16", "BF16")
"""Dtypes of plain weights, by the format's names."""
WRAPPED = r"^(?:module\.|base_model\.model\.|_orig_mod\.)+"
"""Prefixes that DDP, peft and torch.compile put before every name when a wrapped model is saved."""
_ADAPTER_PART = re.compile(r"\.(lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector|base_layer)\.")
_POINTER = b"version https://git-lfs.github.com/spec/"
_PARTIAL = (".incomplete", ".part", ".crdownload", ".aria2")
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")


class WeightsError(ValueError):
    """Weights that cannot be used; the message names file or tensor."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Location of a tensor in its file."""

    file: str
    """Shard, relative to the folder."""
    dtype: str
    """By the format's name, e.g. `BF16`."""
    shape: tuple[int, ...]
    start: int
    """First byte in the file."""
    end: int
    """Byte after the last."""


def stored_tensors(folder: str) -> dict[str, StoredTensor]:
    """The tensors of a model folder, from the headers of all its shards.

    Raises:
        WeightsError: there are no weights, or a shard is missing, truncated, damaged or a Git LFS
            pointer (names the file).
    """
    found: dict[str, StoredTensor] = {}
    indexed = _index(folder)
    for file in sorted(set(indexed.values())) if indexed else [SINGLE]:
        for name, entry in _read_header(folder, file).items():
            if name in found:
                raise WeightsError(f"{folder}: tensor {name} is in two shards")
            found[name] = entry
    for name, file in indexed.items():
        if name not in found:
            raise WeightsError(f"{folder}: {INDEX} names {name}, but {file} lacks it")
    return found


def check_loadable(folder: str) -> str:
    """See that the files of a local model folder are whole, and hold the model itself.

    Returns:
        The prefix of all tensor names that is left out on loading: "" as a rule.

    Raises:
        WeightsError: an adapter in the place of a model, unmerged adapters, a Git LFS pointer, a
            shard that is missing or damaged; says what to do.
    """
    present = sorted(os.listdir(folder))
    for name in present:
        _refuse_pointer(Path(folder) / name)
    if ADAPTER in present:
        raise WeightsError(
            f"{folder}: holds an adapter ({ADAPTER}), which transformers would put on its base "
            "model unasked; merge it into the base (peft: merge_and_unload, save_pretrained) and "
            f"use that folder, or remove {ADAPTER}"
        )
    if any(name.startswith("pytorch_model") for name in present) and not _has_safetensors(present):
        return ""  # read by torch, as tensors only
    names = stored_tensors(folder)
    parts = [name for name in names if _ADAPTER_PART.search(name)]
    if parts:
        raise WeightsError(
            f"{folder}: has tensors of an adapter that is not merged ({first_few(parts)}); merge "
            "it first (peft: merge_and_unload, save_pretrained)"
        )
    return wrapping(names)


_TRAINS = "olmrl trains weights in bfloat16, float16 or float32; use the model it was made from"


def check_trainable(folder: str, config: Mapping[str, Any], what: str = _TRAINS) -> None:
    """Refuse quantised weights.

    Args:
        folder: local model folder.
        config: its config.json.
        what: to do instead.

    Raises:
        WeightsError: the weights are quantised.
    """
    if config.get("quantization_config") or config.get("compression_config"):
        settings = config.get("quantization_config") or config["compression_config"]
        method = settings.get("quant_method") if isinstance(settings, dict) else settings
        raise WeightsError(f"{folder}: is quantised ({method}); {what}")
    if not (_has_safetensors(os.listdir(folder))):
        return
    for name, entry in stored_tensors(folder).items():
        if entry.dtype not in TRAINABLE:
            raise WeightsError(f"{folder}: tensor {name} is stored as {entry.dtype}; {what}")


def difference(
    missing: Iterable[str],
    other: Iterable[str],
    shapes: Iterable[tuple[str, Sequence[int], Sequence[int]]] = (),
) -> str | None:
    """In what a checkpoint's tensors are not those of its model; None if in nothing.

    Args:
        missing: names of the model that the checkpoint lacks.
        other: names that the model does not have.
        shapes: (name, stored shape, the model's shape) where these differ.
    """
    lacking, unknown, unlike = sorted(missing), sorted(other), sorted(shapes)
    if lacking:
        also = f", and there are others: {first_few(unknown)}" if unknown else ""
        return f"missing {first_few(lacking)}{also}"
    if unlike:
        name, stored, wanted = unlike[0]
        more = f" ({len(unlike)} differ)" if len(unlike) > 1 else ""
        return f"{name} has shape {list(stored)}, the model {list(wanted)}{more}"
    return f"the model has no {first_few(unknown)}" if unknown else None


def wrapping(names: Iterable[str]) -> str:
    """The prefix that all names have from the wrapper a model was saved in; "" without one.

    Raises:
        WeightsError: only some have it.
    """
    found = [(match[0] if (match := re.match(WRAPPED, name)) else "", name) for name in names]
    prefixes = {prefix for prefix, _ in found}
    if len(prefixes) > 1:
        examples = ", ".join(min(name for p, name in found if p == prefix) for prefix in prefixes)
        raise WeightsError(f"some tensor names have a prefix of their own, e.g. {examples}")
    return prefixes.pop() if prefixes else ""


def first_few(names: Iterable[str], count: int = 3) -> str:
    """The first names in order, and how many there are."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:count])
    return shown if len(ordered) <= count else f"{shown}, ... ({len(ordered)} in all)"


def _has_safetensors(names: Iterable[str]) -> bool:
    return any(name.endswith((".safetensors", INDEX)) for name in names)


def _refuse_pointer(path: Path) -> None:
    if path.is_file() and path.stat().st_size < 1024:
        with path.open("rb") as stream:
            if stream.read(len(_POINTER)) == _POINTER:
                raise WeightsError(
                    f"{path}: is a Git LFS pointer, not the file itself; fetch it with `git lfs "
                    "pull` or `hf download`"
                )


def _index(folder: str) -> dict[str, str]:
    """File of each tensor; empty for a folder with a single file."""
    path = storage.join(folder, INDEX)
    if storage.exists(path):
        try:
            index = json.loads(storage.read_text(path))
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"{path}: damaged ({error})") from error
        weight_map = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(weight_map, dict) or not weight_map:
            raise WeightsError(f"{path}: damaged (no weight_map)")
        for name, file in weight_map.items():
            if not isinstance(file, str) or not file or file != os.path.basename(file):
                raise WeightsError(
                    f"{path}: damaged ({name} is in {file!r}, which is no file name)"
                )
        return dict(weight_map)
    if not storage.exists(storage.join(folder, SINGLE)):
        raise WeightsError(f"{folder}: has neither {SINGLE} nor {INDEX}{_hint(folder)}")
    return {}


def _hint(folder: str) -> str:
    """What else in a local folder may explain that a file is missing."""
    if storage.is_remote(folder) or not os.path.isdir(folder):
        return ""
    places = (Path(folder), Path(folder) / ".cache/huggingface/download")
    partial = [path for p in places for path in p.glob("*") if path.name.endswith(_PARTIAL)]
    if partial:
        return f"; a download was not finished ({partial[0]}): start it again"
    if any(_SHARD.fullmatch(name) for name in os.listdir(folder)):
        return ", though it has shards; download it again, with its index"
    return ""


def _read_header(folder: str, file: str) -> dict[str, StoredTensor]:
    path = storage.join(folder, file)
    fs, inner = storage.filesystem(path)
    with storage.named(path):
        is_there = fs.isfile(inner)
    if not is_there:
        raise WeightsError(f"{folder}: shard {file} is missing{_hint(folder)}")
    with storage.named(path):
        size = int(fs.size(inner))
    first = read_range(path, 0, min(size, 8))
    if first == _POINTER[:8] and not storage.is_remote(path):
        _refuse_pointer(Path(path))
    length = int.from_bytes(first, "little") if size >= 8 else 0
    if not 2 <= length <= min(_MAX_HEADER, max(size - 8, 0)):
        raise WeightsError(f"{path}: truncated or not safetensors ({size} bytes)")
    try:
        header = json.loads(read_range(path, 8, 8 + length))
        header.pop("__metadata__", None)
        entries = {name: _entry(file, 8 + length, item) for name, item in header.items()}
    except (
        ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError
    ) as error:  # fmt: skip
        raise WeightsError(f"{path}: damaged header ({error})") from error
    needed = max((entry.end for entry in entries.values()), default=0)
    if needed > size:
        cut = min((e.end, name) for name, e in entries.items() if e.end > size)[1]
        raise WeightsError(f"{path}: truncated ({size} bytes of {needed}; {cut} is cut off)")
    return entries


def read_range(path: str, start: int, end: int) -> bytes:
    """Bytes of a file, local or remote."""
    fs, inner = storage.filesystem(path)
    with storage.named(path), fs.open(inner, "rb") as stream:
        stream.seek(start)
        return bytes(stream.read(end - start))


def _entry(file: str, base: int, item: dict[str, Any]) -> StoredTensor:
    dtype, shape = item["dtype"], tuple(int(n) for n in item["shape"])
    if dtype not in _BYTES:
        raise ValueError(f"dtype {dtype}")
    start, end = item["data_offsets"]
    if end - start != prod(shape) * _BYTES[dtype] or start < 0:
        raise ValueError("byte range and shape do not match")
    return StoredTensor(file, dtype, shape, base + start, base + end)
