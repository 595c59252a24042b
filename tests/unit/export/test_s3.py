"""Checkpoints and soups on an object store (a local S3 server)."""

import uuid

import pytest
import s3fs
import torch
from moto.server import ThreadedMotoServer
from test_weights_soup import variant
from trainee import Trainee

from olmrl.checkpoint.manifest import CheckpointError
from olmrl.checkpoint.state import CheckpointStore
from olmrl.export.soup import soup
from olmrl.export.weights import ModelFolder


@pytest.fixture
def bucket(monkeypatch):
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"runs-{uuid.uuid4().hex[:8]}"
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_store_on_s3(bucket):
    store = CheckpointStore(f"{bucket}/a/checkpoints", keep_last=2, asynchronous=True)
    trainee = Trainee()
    for step in (1, 2, 3):
        store.save(step, trainee.state(), extra={"step": step}, blobs={"b": b"\x00"})
    store.wait()
    assert store.steps() == [2, 3]
    other = Trainee(seed=7)
    restored = store.load(store.newest(), other.state())
    other.load(restored.state)
    assert torch.equal(other.model.weight, trainee.model.weight)
    assert restored.extra == {"step": 3}
    assert restored.blobs == {"b": b"\x00"}

    s3fs.S3FileSystem().rm(f"{bucket}/a/checkpoints/step-3/__0_0.distcp")
    with pytest.raises(CheckpointError, match="is missing"):
        store.newest()
    s3fs.S3FileSystem().rm(f"{bucket}/a/checkpoints/step-3/COMPLETE")
    assert store.newest().step == 2
    store.recover()
    assert not s3fs.S3FileSystem().exists(f"{bucket}/a/checkpoints/step-3")


def test_soup_on_s3(bucket, tmp_path, tiny):
    for seed, name in enumerate("ab"):
        variant(tiny, tmp_path / name, seed, shard_bytes=400_000)
        s3fs.S3FileSystem().put(str(tmp_path / name), f"{bucket}/{name}", recursive=True)
    soup([f"{bucket}/a", f"{bucket}/b"], f"{bucket}/soup")
    a, b, mixed = (ModelFolder(f"{bucket}/{n}") for n in ("a", "b", "soup"))
    name = "model.norm.weight"
    torch.testing.assert_close(mixed.read(name), (a.read(name) + b.read(name)) / 2)
