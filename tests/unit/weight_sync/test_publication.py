from __future__ import annotations

import numpy as np
import pytest
import torch

from olmrl.weight_sync.publication import groups, pack, unpack


def weights() -> list[tuple[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        ("a.weight", torch.randn(7, 5, generator=generator)),
        ("a.bias", torch.randn(5, generator=generator).bfloat16()),
        ("scalar", torch.tensor(3.5)),
        ("b.weight", torch.randn(40, 10, generator=generator).bfloat16().T),
        ("ids", torch.arange(6, dtype=torch.int64)),
        ("empty", torch.zeros(0, 4)),
    ]


@pytest.mark.parametrize("bucket_bytes", [1, 150, 10**6])
def test_every_tensor_comes_back_bit_for_bit_in_order(bucket_bytes: int) -> None:
    buckets = list(pack(weights(), bucket_bytes))
    back = [pair for bucket in buckets for pair in unpack(bucket.info(bucket.data))]
    assert [name for name, _ in back] == [name for name, _ in weights()]
    for (_, found), (_, sent) in zip(back, weights(), strict=True):
        assert found.dtype == sent.dtype
        assert torch.equal(found, sent)


def test_buckets_close_before_they_overflow_and_big_tensors_stand_alone() -> None:
    named = [(str(k), torch.zeros(size)) for k, size in enumerate((10, 10, 100, 10, 5))]
    sizes = [[len(tensor) for _, tensor in group] for group in groups(named, 20 * 4)]
    assert sizes == [[10, 10], [100], [10, 5]]


def test_the_stream_is_read_one_bucket_ahead_at_most() -> None:
    read: list[str] = []

    def stream():
        for name, tensor in weights():
            read.append(name)
            yield name, tensor

    buckets = pack(stream(), 1)
    next(buckets)
    assert read == ["a.weight", "a.bias"]


def test_payload_counts_tensors_not_padding() -> None:
    (bucket,) = pack([("x", torch.zeros(3, dtype=torch.bfloat16)), ("y", torch.zeros(1))], 10**6)
    assert bucket.num_bytes == 3 * 2 + 4
    assert len(bucket.data) == 128


def test_unpack_copies_nothing() -> None:
    (bucket,) = pack([("x", torch.zeros(4))], 10**6)
    ((_, tensor),) = unpack(bucket.info(bucket.data))
    bucket.data[:4] = np.frombuffer(np.float32(2.5).tobytes(), np.uint8)
    assert tensor[0] == 2.5


def test_read_only_shared_memory_is_accepted_silently(recwarn: pytest.WarningsRecorder) -> None:
    (bucket,) = pack([("x", torch.ones(4))], 10**6)
    bucket.data.flags.writeable = False
    ((_, tensor),) = unpack(bucket.info(bucket.data))
    assert tensor.sum() == 4
    assert not [w for w in recwarn if "writable" in str(w.message)]
