"""Safetensors over any shard layout, and the average of models."""

import json
import resource
import shutil

import pytest
import torch
from children import CONTEXT, run_child
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from olmrl.checkpoint.manifest import CheckpointError
from olmrl.errors import sentence
from olmrl.export.fp8 import quantise
from olmrl.export.soup import soup
from olmrl.export.weights import ModelFolder, ShardWriter, completed


def variant(tiny, out, seed, shard_bytes=10**9, dtype=None):
    """The tiny model, shaken, in its own shard layout and tensor order."""
    shutil.copytree(tiny, out, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.manual_seed(seed)
    tensors = {}
    for name, tensor in sorted(ModelFolder(tiny).tensors(), reverse=bool(seed % 2)):
        tensors[name] = (tensor + 0.1 * torch.randn_like(tensor)).to(dtype or tensor.dtype)
    with ShardWriter(out, shard_bytes) as writer:
        for name, tensor in tensors.items():
            writer.add(name, tensor)
    return tensors


def test_shards_hold_what_was_added_and_load_in_transformers(tmp_path, tiny):
    tensors = variant(tiny, tmp_path / "a", seed=1, shard_bytes=200_000)
    folder = ModelFolder(tmp_path / "a")
    assert {name: e.shape for name, e in folder.entries.items()} == {
        name: tuple(t.shape) for name, t in tensors.items()
    }
    for name, tensor in folder.tensors():
        assert torch.equal(tensor, tensors[name])
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "a")
    assert torch.equal(
        model.state_dict()["model.language_model.norm.weight"], tensors["model.norm.weight"]
    )
    assert folder.num_bytes == sum(t.nbytes for t in tensors.values())


def test_every_dtype_survives(tmp_path):
    dtypes = [torch.float8_e4m3fn, torch.bfloat16, torch.int8, torch.bool, torch.int64]
    tensors = {str(d): torch.arange(6).reshape(2, 3).to(d) for d in dtypes}
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.zeros(0, 3)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    for name, tensor in ModelFolder(tmp_path).tensors():
        assert tensor.dtype == tensors[name].dtype
        assert torch.equal(tensor.float(), tensors[name].float())


def test_soup_is_the_mean_over_any_layout(tmp_path, tiny):
    parts = [
        variant(tiny, tmp_path / name, seed, shard_bytes)
        for seed, (name, shard_bytes) in enumerate([("a", 10**9), ("b", 150_000), ("c", 400_000)])
    ]
    out = tmp_path / "soup"
    distances = soup([str(tmp_path / n) for n in "abc"], str(out))
    mixed = load_file(out / "model.safetensors")
    assert mixed.keys() == parts[0].keys()
    for name, tensor in mixed.items():
        expected = sum(part[name].double() for part in parts) / 3
        torch.testing.assert_close(tensor.double(), expected, atol=1e-6, rtol=1e-6)
    assert all(0.01 < d < 1 for d in distances.values())
    AutoModelForImageTextToText.from_pretrained(out)
    assert (out / "tokenizer.json").read_bytes() == (tmp_path / "a" / "tokenizer.json").read_bytes()


def altered(tiny, out, change):
    """A copy of a model with other tensors."""
    shutil.copytree(tiny, out)
    tensors = load_file(out / "model.safetensors")
    change(tensors)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return str(out)


def test_bfloat16_sums_in_float32(tmp_path, tiny):
    # 256 + 1 + 1 + ... in bfloat16 would stay 256: each 1 is below half its spacing there.
    norm = "model.norm.weight"
    models = [
        altered(
            tiny,
            tmp_path / str(i),
            lambda t, i=i: t.update({norm: torch.full_like(t[norm], 1 if i else 256).bfloat16()}),
        )
        for i in range(9)
    ]
    soup(models, str(tmp_path / "out"))
    mean = load_file(tmp_path / "out" / "model.safetensors")[norm]
    assert mean.dtype == torch.bfloat16
    assert mean[0].item() == torch.tensor(264 / 9).bfloat16().item()


LAYER = "model.layers.0.mlp.down_proj.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop(LAYER), f"missing {LAYER}"),
        (lambda t: t.update({LAYER: t[LAYER][:, 1:].contiguous()}), f"{LAYER} has shape"),
        (lambda t: t.update({LAYER: t[LAYER].to(torch.int8)}), f"{LAYER} is stored as I8"),
        (lambda t: t.update({"more.weight": torch.zeros(3)}), "the model has no more.weight"),
    ],
)
def test_what_is_not_the_model_of_its_config_is_neither_rounded_nor_averaged(
    tmp_path, tiny, change, said
):
    model = altered(tiny, tmp_path / "a", change)
    shutil.copytree(model, tmp_path / "b")
    with pytest.raises(CheckpointError, match=said):
        quantise(model, str(tmp_path / "out"))
    with pytest.raises(CheckpointError, match=said):
        soup([model, str(tmp_path / "b")], str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_weighted_soup_on_remote_folders(tmp_path, tiny):
    import fsspec

    for seed, name in enumerate("ab"):
        variant(tiny, tmp_path / name, seed)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "b"), "/models/b", recursive=True)
    soup(
        [str(tmp_path / "a"), "memory://models/b"],
        "memory://models/soup",
        source_weights=[0.25, 0.75],
    )
    a, b = ModelFolder(tmp_path / "a"), ModelFolder(tmp_path / "b")
    mixed = ModelFolder("memory://models/soup")
    for name in a.entries:
        torch.testing.assert_close(mixed.read(name), 0.25 * a.read(name) + 0.75 * b.read(name))
    assert memory.exists("/models/soup/tokenizer.json")


def test_mismatches_name_the_first_tensor(tmp_path, tiny):
    a, out = str(tmp_path / "a"), str(tmp_path / "out")
    tensors = variant(tiny, a, seed=0)
    for name, change, message in [
        (
            "shape",
            lambda t: t | {"model.norm.weight": torch.ones(5)},
            r"model.norm.weight is .* \[5\]",
        ),
        (
            "less",
            lambda t: {k: v for k, v in t.items() if k != "model.norm.weight"},
            "lacks tensor model.norm",
        ),
        ("more", lambda t: t | {"extra": torch.ones(1)}, "lacks tensor extra"),
        ("half", lambda t: {k: v.half() for k, v in t.items()}, "torch.float16"),
    ]:
        other = tmp_path / name
        shutil.copytree(tiny, other, ignore=shutil.ignore_patterns("*.safetensors"))
        save_file(change(tensors), other / "model.safetensors")
        with pytest.raises(CheckpointError, match=message):
            soup([a, str(other)], out)
    with pytest.raises(CheckpointError, match=r"weights must sum to 1, got \[1.0, 1.0\]"):
        soup([a, a], out, source_weights=[1.0, 1.0])
    with pytest.raises(CheckpointError, match="at least two"):
        soup([a], out)
    with pytest.raises(CheckpointError, match="already holds a model"):
        soup([a, a], a)


def write_on_a_full_disk(out, messages):
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        with ShardWriter(out) as writer:
            writer.add("w", torch.zeros(1 << 18))
    except OSError as error:
        messages.put(sentence(error))


def test_a_full_disk_leaves_no_half_model(tmp_path):
    messages = CONTEXT.Queue()
    assert run_child(write_on_a_full_disk, tmp_path / "out", messages) == 0
    said = "File too large; raise the limit of file sizes (ulimit -f)"
    assert messages.get(timeout=10) == f"{tmp_path}/out: {said}"
    assert list((tmp_path / "out").iterdir()) == []


def test_what_broke_off_is_not_there_and_the_next_call_goes_on(tmp_path):
    out = tmp_path / "out"

    def write(fail):
        with completed(str(out)) as folder, ShardWriter(folder) as writer:
            writer.add("w", torch.zeros(2))
            if fail:
                raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write(fail=True)
    assert not out.exists()
    (out / ".unfinished").mkdir(parents=True)
    (out / ".unfinished/half").write_text("of a call that was killed")
    write(fail=False)
    assert [path.name for path in out.iterdir()] == ["model.safetensors"]


def test_damaged_models_are_explained(tmp_path, tiny):
    folder = tmp_path / "m"
    variant(tiny, folder, seed=0, shard_bytes=200_000)
    shard = sorted(folder.glob("model-00001*"))[0]
    content = shard.read_bytes()
    shard.write_bytes(content[:-100])
    with pytest.raises(CheckpointError, match=r"model-00001-of-\d+.safetensors: truncated"):
        ModelFolder(folder)
    shard.write_bytes(content[:5])
    with pytest.raises(CheckpointError, match="truncated or not safetensors"):
        ModelFolder(folder)
    shard.write_bytes(b"<html>" + content[6:])
    with pytest.raises(CheckpointError, match="truncated or not safetensors"):
        ModelFolder(folder)
    shard.unlink()
    with pytest.raises(CheckpointError, match=r"shard model-00001-of-.* is missing"):
        ModelFolder(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {}}))
    with pytest.raises(CheckpointError, match="no weight_map"):
        ModelFolder(folder)
    index.unlink()
    with pytest.raises(CheckpointError, match="has neither"):
        ModelFolder(folder)
    with pytest.raises(CheckpointError, match="not a model folder"):
        ModelFolder(tmp_path / "nowhere")
