"""The strategy's state as torch.distributed.checkpoint shards, read back without pickle.

A state is a tree of dicts, lists and tuples. Its tensors go to shards (every rank writes its part
of a DTensor; restoring reshards to any number of ranks), everything else to one JSON tree. The
states of each rank's random generators are tensors too. DCP's own index is a pickle, so it is read
with an unpickler that only knows DCP's metadata classes: a foreign checkpoint cannot run code.
"""

from __future__ import annotations

import os
import pickle
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader, FsspecWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata

from olmrl import storage
from olmrl.checkpoint.manifest import CheckpointError, remove_folder

Tensors = dict[str, torch.Tensor]
Stored = tuple[str, torch.Tensor]
RNG = "rng"
NEWER = ("/weight_rest",)
"""Ends of names that older checkpoints lack (`learner.optimizers`): state that starts anew."""
_METADATA = ".metadata"
_BATCH_BYTES = 2**30
_TAG = "$"


def split(state: Any, path: str = "", tensors: Tensors | None = None) -> tuple[Any, Tensors]:
    """Split a state tree into a JSON tree with references and its tensors by path.

    Raises:
        CheckpointError: a leaf is neither a tensor nor a plain value (names its path).
    """
    tensors = {} if tensors is None else tensors

    def below(value: Any, key: Any) -> Any:
        return split(value, f"{path}/{key}" if path else str(key), tensors)[0]

    if isinstance(state, torch.Tensor):
        tensors[path] = state
        return {_TAG: "tensor", "key": path}, tensors
    if state is None or isinstance(state, (bool, int, float, str)):
        return state, tensors
    if isinstance(state, np.generic):
        return state.item(), tensors
    if isinstance(state, list):
        return [below(value, i) for i, value in enumerate(state)], tensors
    if isinstance(state, tuple):
        return {_TAG: "tuple", "items": [below(v, i) for i, v in enumerate(state)]}, tensors
    if isinstance(state, Mapping):
        if all(isinstance(key, str) for key in state) and _TAG not in state:
            return {key: below(value, key) for key, value in state.items()}, tensors
        items = [[below(key, "key"), below(value, key)] for key, value in state.items()]
        return {_TAG: "dict", "items": items}, tensors
    raise CheckpointError(f"state {path}: cannot save a {type(state).__name__}")


def join(values: Any, tensors: Tensors) -> Any:
    """Rebuild a tree from the results of `split`."""
    if isinstance(values, list):
        return [join(value, tensors) for value in values]
    if not isinstance(values, dict):
        return values
    if values.get(_TAG) == "tensor":
        return tensors[values["key"]]
    if values.get(_TAG) == "tuple":
        return tuple(join(value, tensors) for value in values["items"])
    if values.get(_TAG) == "dict":
        return {join(key, tensors): join(value, tensors) for key, value in values["items"]}
    return {key: join(value, tensors) for key, value in values.items()}


def writer(folder: str) -> dcp.FileSystemWriter:
    """The DCP writer for a local or remote folder."""
    return _RemoteWriter(folder) if storage.is_remote(folder) else _LocalWriter(folder)


class _StartsEmpty:
    """Mixed into DCP writers: first removes whatever a killed run left in the folder."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        # Runs before any rank may write, so nothing of this save can be lost.
        if is_coordinator:
            remove_folder(os.fspath(self.path))  # type: ignore[attr-defined]
        super().set_up_storage_writer(is_coordinator, *args, **kwargs)  # type: ignore[misc]


class _LocalWriter(_StartsEmpty, dcp.FileSystemWriter):
    pass


class _RemoteWriter(_StartsEmpty, FsspecWriter):
    pass


class _MetadataUnpickler(pickle.Unpickler):
    _ALLOWED_MODULES = ("torch.distributed.checkpoint.metadata",)
    _ALLOWED = frozenset(
        {
            ("torch", "Size"),
            ("torch.serialization", "_get_layout"),
            ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
            ("pathlib", "PosixPath"),
            ("pathlib._local", "PosixPath"),
            ("collections", "OrderedDict"),
            ("collections", "defaultdict"),
            ("builtins", "dict"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        # a dotted name is looked up step by step: `os.system` of any module that imports os
        if "." not in name:
            is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
            if is_dtype or (module, name) in self._ALLOWED:
                return super().find_class(module, name)
            if module in self._ALLOWED_MODULES:
                found = super().find_class(module, name)
                if isinstance(found, type) and found.__module__ == module:
                    return found
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in checkpoint metadata")


def _read_metadata(stream: IO[bytes], folder: str) -> Metadata:
    try:
        metadata = _MetadataUnpickler(stream).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, TypeError) as error:
        raise CheckpointError(f"{folder}: {_METADATA} is damaged ({error})") from error
    if not isinstance(metadata, Metadata):
        raise CheckpointError(f"{folder}: {_METADATA} is damaged (it contains no metadata)")
    return metadata


class _SafeReading:
    """Mixed into DCP readers: metadata through the restricted unpickler."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        folder = os.fspath(self.path)  # type: ignore[attr-defined]
        with self.fs.create_stream(self._get_metadata_path(), "rb") as stream:  # type: ignore[attr-defined]
            metadata = _read_metadata(stream, folder)
        if metadata.storage_meta is None:
            metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = self.load_id  # type: ignore[attr-defined]
        return metadata


class _LocalReader(_SafeReading, dcp.FileSystemReader):
    pass


class _RemoteReader(_SafeReading, FsspecReader):
    pass


def reader(folder: str) -> dcp.FileSystemReader:
    """The DCP reader for a local or remote folder."""
    return _RemoteReader(folder) if storage.is_remote(folder) else _LocalReader(folder)


def saved_shapes(folder: str) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor in a checkpoint folder, by its path in the state."""
    metadata = reader(folder).read_metadata()
    return {
        name: tuple(entry.size)
        for name, entry in metadata.state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata)
    }


def check(
    folder: str, wanted: Mapping[str, torch.Tensor], saved: dict[str, tuple[int, ...]]
) -> None:
    """Compare the tensors of the running model and optimizer with the saved ones.

    Raises:
        CheckpointError: one is missing on either side or differs in shape (names the first).
    """
    for name, tensor in wanted.items():
        if name not in saved and not name.endswith(NEWER):
            raise CheckpointError(f"{folder}: has no tensor {name}; another model or optimizer?")
        if tuple(tensor.shape) != saved.get(name, tuple(tensor.shape)):
            raise CheckpointError(
                f"{folder}: {name} has shape {list(saved[name])}, "
                f"the model expects {list(tensor.shape)}; another architecture?"
            )
    parts = {name.split("/", 1)[0] for name in wanted}
    for name in saved:
        if name.split("/", 1)[0] in parts and name not in wanted:
            raise CheckpointError(f"{folder}: tensor {name} is not in the model; another model?")


def write(tensors: Tensors, to: dcp.FileSystemWriter, group: dist.ProcessGroup | None) -> None:
    """Write the shards of this rank (a collective over `group`)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        dcp.save(tensors, storage_writer=to, process_group=group, no_dist=not dist.is_initialized())


def read_into(tensors: Tensors, folder: str, group: dist.ProcessGroup | None) -> None:
    """Fill tensors in place from a checkpoint folder (a collective over `group`)."""
    _load(tensors, folder, process_group=group, no_dist=not dist.is_initialized())


def _load(tensors: Tensors, folder: str, **options: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        dcp.load(tensors, storage_reader=reader(folder), **options)


def stored(folder: str, names: Sequence[str]) -> Iterator[Stored]:
    """Read the given tensors in full, in one process, about 1 GiB at a time.

    Args:
        folder: checkpoint folder.
        names: paths in the state, as returned by `saved_shapes`.
    """
    index = reader(folder).read_metadata().state_dict_metadata
    batch: Tensors = {}
    for name in names:
        entry = index[name]
        assert isinstance(entry, TensorStorageMetadata)
        tensor = torch.empty(entry.size, dtype=entry.properties.dtype)
        if batch and sum(t.nbytes for t in batch.values()) + tensor.nbytes > _BATCH_BYTES:
            yield from _filled(batch, folder)
            batch = {}
        batch[name] = tensor
    yield from _filled(batch, folder)


def _filled(batch: Tensors, folder: str) -> Iterator[Stored]:
    if not batch:
        return
    _load(batch, folder, no_dist=True)
    yield from batch.items()


def capture_rng() -> Tensors:
    """State of this process's torch, numpy and Python generators."""
    _, python_words, python_gauss = random.getstate()
    state: Any = np.random.get_state(legacy=False)
    tensors = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(python_words),
        "python_gauss": torch.tensor(
            [float("nan") if python_gauss is None else python_gauss], dtype=torch.float64
        ),
        "numpy": torch.from_numpy(state["state"]["key"].astype(np.int64)),
        "numpy_position": torch.tensor([state["state"]["pos"], state["has_gauss"]]),
        "numpy_gauss": torch.tensor([state["gauss"]], dtype=torch.float64),
    }
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    return tensors


def restore_rng(tensors: Tensors) -> None:
    """Set the generators of this process to a captured state."""
    torch.set_rng_state(tensors["torch"])
    gauss = tensors["python_gauss"].item()
    random.setstate((3, tuple(tensors["python"].tolist()), None if np.isnan(gauss) else gauss))
    position, has_gauss = tensors["numpy_position"].tolist()
    np.random.set_state(
        {
            "bit_generator": "MT19937",
            "state": {"key": tensors["numpy"].numpy().astype(np.uint32), "pos": position},
            "has_gauss": has_gauss,
            "gauss": tensors["numpy_gauss"].item(),
        }
    )
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])


def seed_rng(seed: int) -> None:
    """Seed all generators, for ranks that are not in the checkpoint."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
