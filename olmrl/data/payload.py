"""Values as blocks of Ray Data, read back without a copy.

A block is an Arrow table of one row that holds the bytes of the arrays, one after the other. They
are read where they lie in the object store, so they are read-only.
"""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import numpy as np
import pyarrow as pa

_ALIGN = 64
"""Arrays begin at multiples of this many bytes."""


def pack_block(value: Any, *, room: int = 0) -> pa.Table:
    """Write a picklable value as a block.

    Args:
        value: what to write.
        room: smallest size of the block in bytes.
    """
    arrays: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)
    views = [array.raw() for array in arrays]
    places = _places([view.nbytes for view in views])
    data = np.zeros(max(places[-1], room), np.uint8)
    for start, view in zip(places, views, strict=False):
        data[start : start + view.nbytes] = view
    head = pickle.dumps(([view.nbytes for view in views], pickled))
    return pa.table({"head": pa.array([head], pa.large_binary()), "data": _one_binary(data)})


def unpack_block(block: pa.Table) -> Any:
    """Read back what `pack_block` wrote; its arrays are views of the block."""
    lengths, pickled = pickle.loads(block["head"][0].as_buffer())
    data = _bytes_of(block["data"].chunk(0))
    starts = _places(lengths)
    arrays = [data[start : start + n] for start, n in zip(starts, lengths, strict=False)]
    return pickle.loads(pickled, buffers=arrays)


def _places(lengths: list[int]) -> list[int]:
    """Where arrays of these lengths begin, and where the last one ends."""
    padded = [-(-length // _ALIGN) * _ALIGN for length in lengths]
    return list(itertools.accumulate(padded, initial=0))


def _bytes_of(column: pa.LargeBinaryArray) -> memoryview:
    """The bytes of a column of one row, without a copy (its scalar would make one)."""
    _, offsets, data = column.buffers()
    start, end = np.frombuffer(offsets, np.int64)[column.offset : column.offset + 2]
    return memoryview(data)[start:end]


def _one_binary(data: np.ndarray) -> pa.Array:
    """Bytes as a column of one row, without a copy."""
    offsets = pa.py_buffer(np.asarray([0, len(data)], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(data)])
