"""A checkpoint covers its model, or it is refused by a sentence that names what is wrong."""

import json
import shutil

import pytest
import torch
from family_models import make_family_model
from safetensors.torch import load_file, save_file

from olmrl.config.schema import ModelConfig
from olmrl.learner.model import load_policy
from olmrl.models.loading import load_network
from olmrl.models.registry import FAMILIES
from olmrl.models.weight_files import WeightsError, check_loadable

WEIGHTS = "model.safetensors"
NORM = "model.language_model.norm.weight"


@pytest.fixture(scope="module", params=FAMILIES)
def saved(request, tmp_path_factory):
    """A model folder of each family."""
    path = tmp_path_factory.mktemp("saved") / request.param
    make_family_model(request.param).save_pretrained(path)
    (path / "preprocessor_config.json").write_text("{}")
    return path


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(saved, tmp_path / saved.name)


@pytest.fixture(scope="module")
def one_saved(tmp_path_factory):
    """A model folder of one family, for what does not depend on it."""
    path = tmp_path_factory.mktemp("saved") / "model"
    make_family_model("qwen2_5_vl").save_pretrained(path)
    (path / "preprocessor_config.json").write_text("{}")
    return path


@pytest.fixture
def one(one_saved, tmp_path):
    return shutil.copytree(one_saved, tmp_path / "model")


def policy(path):
    return load_policy(ModelConfig(path=str(path)))


def change(path, edit):
    """Write the tensors of a folder as `edit` returns them."""
    save_file(edit(load_file(path / WEIGHTS)), path / WEIGHTS, {"format": "pt"})


def settings(path, **values):
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def without(part):
    return lambda tensors: {n: t for n, t in tensors.items() if part not in n}


@pytest.mark.parametrize("prefix", ["module.", "base_model.model.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_left_out(saved, folder, prefix):
    expected = load_network(str(saved), "model.path", dtype=torch.float32).state_dict()
    change(folder, lambda tensors: {f"{prefix}{n}": t for n, t in tensors.items()})
    assert check_loadable(str(folder)) == prefix
    found = load_network(str(folder), "model.path", dtype=torch.float32).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (
            lambda t: {f"wrapper.{n}": x for n, x in t.items()},
            r"missing lm_head\.weight, .*wrapper",
        ),
        (without("visual."), r"missing model\.visual\.blocks\.0\..* in all\)"),
        (without("layers.1.mlp.down_proj"), r"missing model\.language_model\.layers\.1\.mlp"),
        (lambda t: t | {"v_head.weight": torch.ones(2)}, r"the model has no v_head\.weight"),
    ],
    ids=["unknown prefix", "no vision tower", "one missing", "one too many"],
)
def test_weights_that_do_not_cover_the_model_are_refused(folder, edit, named):
    change(folder, edit)
    with pytest.raises(ValueError, match=rf"^model\.path: the weights of .* do not fit.*{named}"):
        policy(folder)


def test_a_config_with_fewer_layers_than_the_weights_is_refused(one):
    text = json.loads((one / "config.json").read_text())["text_config"]
    text["num_hidden_layers"] -= 1
    text.pop("layer_types", None)
    settings(one, text_config=text)
    with pytest.raises(ValueError, match=r"the model has no model.*layers\.2\."):
        policy(one)


def test_a_wrong_shape_is_refused_with_both_shapes(folder):
    def shorten(tensors):
        name = next(n for n in tensors if n.endswith(("model.norm.weight", NORM)))
        return tensors | {name: torch.ones(5)}

    change(folder, shorten)
    with pytest.raises(ValueError, match=rf"{NORM} has shape \[5\], the model \[64\]"):
        policy(folder)


def test_a_head_of_its_own_under_a_config_that_ties_it_is_refused(folder):
    def untie(tensors):
        (embedding,) = (t for n, t in tensors.items() if n.endswith("embed_tokens.weight"))
        return tensors | {"lm_head.weight": embedding + 1}

    change(folder, untie)
    with pytest.raises(ValueError, match="tie_word_embeddings is true, but lm_head"):
        policy(folder)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def lfs_pointer(path):
    (path / WEIGHTS).write_text(POINTER)


def tokenizer_pointer(path):
    (path / "tokenizer.json").write_text(POINTER)


def cut_off(path):
    data = (path / WEIGHTS).read_bytes()
    (path / WEIGHTS).write_bytes(data[:-100])


def empty(path):
    (path / WEIGHTS).write_bytes(b"")


def web_page(path):
    (path / WEIGHTS).write_text("<html>please log in</html>")


def no_weights(path):
    (path / WEIGHTS).unlink()
    partial = path / ".cache" / "huggingface" / "download"
    partial.mkdir(parents=True)
    (partial / "abc.incomplete").write_bytes(b"0")


def missing_shard(path):
    names = list(load_file(path / WEIGHTS))
    (path / WEIGHTS).rename(path / "model-00001-of-00002.safetensors")
    placed = dict.fromkeys(names, "model-00001-of-00002.safetensors")
    placed[names[-1]] = "model-00002-of-00002.safetensors"
    (path / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": placed}))


def no_index(path):
    (path / WEIGHTS).rename(path / "model-00001-of-00001.safetensors")


def bad_index(path):
    (path / f"{WEIGHTS}.index.json").write_text("{")


def adapter_beside(path):
    (path / "adapter_config.json").write_text("{}")


def unmerged(path):
    change(path, lambda tensors: {
        f"base_model.model.{n.replace('q_proj.weight', 'q_proj.base_layer.weight')}": t
        for n, t in tensors.items()
    })  # fmt: skip


def half_wrapped(path):
    change(path, lambda tensors: {
        f"module.{n}" if "visual" in n else n: t for n, t in tensors.items()
    })  # fmt: skip


def fp8_config(path):
    settings(path, quantization_config={"quant_method": "fp8"})


def fp8_tensors(path):
    change(path, lambda tensors: {
        n: t.to(torch.float8_e4m3fn) if n.endswith("q_proj.weight") else t
        for n, t in tensors.items()
    })  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lfs_pointer, r"model\.safetensors: is a Git LFS pointer.*git lfs pull"),
        (tokenizer_pointer, r"tokenizer\.json: is a Git LFS pointer"),
        (cut_off, r"model\.safetensors: truncated \(.* is cut off\)"),
        (empty, r"model\.safetensors: truncated or not safetensors \(0 bytes\)"),
        (web_page, r"model\.safetensors: truncated or not safetensors"),
        (no_weights, r"has neither .*a download was not finished \(.*abc\.incomplete\)"),
        (missing_shard, r"shard model-00002-of-00002\.safetensors is missing"),
        (no_index, "has neither .* though it has shards"),
        (bad_index, r"index\.json: damaged"),
        (adapter_beside, r"holds an adapter .*merge it into the base"),
        (unmerged, r"an adapter that is not merged \(.*base_layer.*merge it first"),
        (half_wrapped, "some tensor names have a prefix of their own"),
        (fp8_config, r"is quantised \(fp8\).*use the model it was made from"),
        (fp8_tensors, r"q_proj\.weight is stored as F8_E4M3"),
    ],
)
def test_folders_that_cannot_be_trained_say_why_and_what_to_do(one, damage, named):
    damage(one)
    with pytest.raises(ValueError, match=r"^model\.path: the weights of .*") as caught:
        policy(one)
    assert caught.match(named)
    assert str(one) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"model_type": "qwen2_5_vl", "text_config": 3}'])
def test_a_damaged_config_is_a_sentence(one, text):
    (one / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"^model\.path: ") as caught:
        policy(one)
    assert str(one) in str(caught.value)


def test_an_adapter_alone_is_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(WeightsError, match="holds an adapter"):
        check_loadable(str(tmp_path))
