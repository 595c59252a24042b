from __future__ import annotations

import pickle

import numpy as np
import pytest

from olmrl.data.payload import pack_block, unpack_block

ARRAYS = [
    np.arange(7, dtype=np.uint8),
    np.arange(12, dtype=np.int64).reshape(3, 4),
    np.zeros((0, 3), np.float32),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
]


@pytest.mark.parametrize("value", [None, "text", {"a": (1, 2.5)}, ARRAYS, [ARRAYS[1]] * 2])
def test_values_come_back(value):
    found = unpack_block(pack_block(value))
    np.testing.assert_equal(found, value)
    if isinstance(value, list):
        assert [a.dtype for a in found] == [a.dtype for a in value]
        assert [a.flags.aligned for a in found] == [True] * len(value)


def test_a_block_is_one_row_of_the_size_asked_for_and_survives_a_journey():
    block = pickle.loads(pickle.dumps(pack_block("small", room=4096)))
    assert block.num_rows == 1 and block.nbytes > 4096
    assert unpack_block(block) == "small"


def test_an_array_is_written_once_and_read_where_it_lies():
    large = np.zeros(1_000_000, np.uint8)
    block = pack_block({"labels": large, "ids": large})
    assert block.nbytes < 1_001_000
    found = unpack_block(block)["ids"]
    lies = block["data"].chunk(0).buffers()[2]
    assert lies.address <= found.ctypes.data < lies.address + lies.size
