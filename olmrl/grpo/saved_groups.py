"""Payloads of `olmrl.types` as bytes: groups in a checkpoint that were ready but not trained.

An .npz archive: the tree as JSON text, and the arrays. Reading unpickles nothing.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Iterable
from typing import Any

import numpy as np

from olmrl import types
from olmrl.checkpoint.manifest import CheckpointError

_TAG = "$"
_TREE = "tree"
_PAYLOADS: dict[str, Any] = {
    name: kind
    for name, kind in vars(types).items()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind)
}


def encode_groups(groups: Iterable[types.PromptGroup]) -> bytes:
    """Write prompt groups without their pages, which are rendered again from the PDFs."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    tree = [_encode(dataclasses.replace(group, page=None), arrays) for group in groups]
    stream = io.BytesIO()
    text = np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8)
    np.savez(stream, allow_pickle=False, **{_TREE: text, **arrays})
    return stream.getvalue()


def decode_groups(data: bytes) -> list[types.PromptGroup]:
    """Read back what `encode_groups` wrote.

    Raises:
        CheckpointError: the bytes are damaged.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        tree = json.loads(arrays[_TREE].tobytes())
        return [_decode(item, arrays) for item in tree]
    except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"saved groups are damaged ({error})") from error


def _encode(value: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        name = f"a{len(arrays)}"
        arrays[name] = value
        return {_TAG: "array", "name": name}
    if isinstance(value, types.PolicyVersion):
        return {_TAG: "version", "text": str(value)}
    if isinstance(value, tuple):
        return {_TAG: "tuple", "items": [_encode(item, arrays) for item in value]}
    if isinstance(value, list):
        return [_encode(item, arrays) for item in value]
    if isinstance(value, dict):
        return {_TAG: "dict", "items": [[k, _encode(v, arrays)] for k, v in value.items()]}
    kind = type(value).__name__
    if _PAYLOADS.get(kind) is not type(value):
        raise CheckpointError(f"saved groups: cannot write a {kind}")
    fields = {f.name: _encode(getattr(value, f.name), arrays) for f in dataclasses.fields(value)}
    return {_TAG: kind, "fields": fields}


def _decode(value: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    tag = value[_TAG]
    if tag == "array":
        return arrays[value["name"]]
    if tag == "version":
        return types.PolicyVersion.parse(value["text"])
    if tag == "tuple":
        return tuple(_decode(item, arrays) for item in value["items"])
    if tag == "dict":
        return {key: _decode(item, arrays) for key, item in value["items"]}
    fields = {name: _decode(item, arrays) for name, item in value["fields"].items()}
    return _PAYLOADS[tag](**fields)
