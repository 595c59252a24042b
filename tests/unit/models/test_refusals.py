"""What a family cannot take: folders that are incomplete or of another model, and pages."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from olmrl.config.schema import ModelConfig, SftConfig
from olmrl.data.encode import Encoder, EncoderSpec
from olmrl.data.page import load_page, scan_bench, scan_pairs
from olmrl.data.render import BadPage
from olmrl.errors import PageRefused
from olmrl.learner.model import load_policy
from olmrl.models.files import image_settings, model_config
from olmrl.models.registry import FAMILIES, described
from olmrl.models.weight_files import WeightsError, stored_tensors
from olmrl.preflight import checks

WEIGHTS = "model.safetensors"


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_processor(folder, **values):
    """Written as published files are: in a file of its own."""
    file = folder / "processor_config.json"
    processor = json.loads(file.read_text())["image_processor"]
    file.unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(processor | values))


def load(folder):
    return load_policy(ModelConfig(path=str(folder)))


@pytest.mark.parametrize("part", ["model.visual.", "model.language_model.layers.1."])
def test_weights_that_are_missing_are_not_drawn_at_random(folder, part):
    """A text-only save of a vision model, say, beside the config.json of the whole."""
    tensors = load_file(folder / WEIGHTS)
    whole = {FAMILIES[folder.name].module_name(name): tensor for name, tensor in tensors.items()}
    kept = {name: tensor for name, tensor in whole.items() if not name.startswith(part)}
    save_file(kept, folder / WEIGHTS, {"format": "pt"})
    count = len(whole) - len(kept)
    message = rf"{folder.name}' do not fit its config.json: missing {part}.*{count} in all"
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_weights_of_another_size_are_refused(folder):
    tensors = load_file(folder / WEIGHTS)
    name = next(name for name in sorted(tensors) if name.endswith("mlp.up_proj.weight"))
    tensors[name] = torch.zeros(3, 5)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(ValueError, match=r"up_proj\.weight has shape \[3, 5\], the model"):
        load(folder)


def test_quantised_weights_are_not_trained(folder):
    change(folder / "config.json", quantization_config={"quant_method": "fp8"})
    with pytest.raises(ValueError, match="quantised"):
        load(folder)


@pytest.mark.parametrize(
    ("model_type", "kind"),
    [
        ("{}_moe", ", a mixture of experts"),
        ("{}_text", ", a language model without vision"),
        ("{}_next", ""),
    ],
)
def test_other_models_are_refused_with_those_that_are_trained(folder, model_type, kind):
    wrong = model_type.format(folder.name)
    change(folder / "config.json", model_type=wrong)
    for read in (described, model_config, load):
        with pytest.raises(ValueError, match=f"'{wrong}'{kind}, which olmrl cannot") as error:
            read(folder if read is load else str(folder))
        assert all(name in str(error.value) for name in FAMILIES)


def test_a_folder_without_a_vision_part_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["vision_config"]
    (folder / "config.json").write_text(json.dumps(config))
    for read in (described, model_config, lambda path: Encoder(EncoderSpec(path))):
        with pytest.raises(ValueError, match="no vision_config, and olmrl trains models that read"):
            read(str(folder))


OF_NO_KIND = [[], None, "x", -1, 10**400, float("nan"), float("inf")]


@pytest.mark.parametrize("value", OF_NO_KIND, ids=repr)
@pytest.mark.parametrize(
    "key", ["model_type", "vision_config", "text_config", "text_config.hidden_size"]
)
def test_a_config_with_values_of_no_kind_is_refused(folder, key, value):
    file = folder / "config.json"
    config = json.loads(file.read_text())
    section, _, name = key.rpartition(".")
    (config[section] if section else config)[name] = value
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"{folder.name}: .*(config|type)"):
        described(str(folder))


@pytest.mark.parametrize("value", [[1], "x", -1, float("inf")], ids=repr)
@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("config.json", "image_token_id"),
        ("processor_config.json", ""),
        ("processor_config.json", "image_processor"),
        ("tokenizer_config.json", ""),
        ("tokenizer_config.json", "added_tokens_decoder"),
        ("model.safetensors.index.json", "weight_map"),
    ],
)
def test_other_files_with_values_of_no_kind_are_refused(folder, file, key, value):
    path = folder / file
    values = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(values | {key: value} if key else value))
    config = SftConfig(model={"path": str(folder)}, data={"train": [{"root": "x"}]})
    if (key, value) in (("image_token_id", "x"), ("image_token_id", -1)):
        return  # the tokenizer disagrees, which has its own sentence
    assert all(len(line) < 600 for line in checks.model(config, None))
    assert any(file in line or "config" in line for line in checks.model(config, None))


@pytest.mark.parametrize("shard", ["../x.safetensors", "/etc/passwd", "", ["x"], 3])
def test_an_index_names_files_of_its_folder(folder, shard):
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(WeightsError, match="no file name"):
        stored_tensors(str(folder))


@pytest.mark.parametrize(
    "header",
    [
        b'{"a": {"dtype": "F32", "shape": [Infinity], "data_offsets": [0, 4]}}',
        b'{"a": ' + b"[" * 50_000,
        b"[]",
        b'{"a": {"dtype": [], "shape": [1], "data_offsets": [0, 4]}}',
    ],
)
def test_a_damaged_header_is_named(folder, header):
    (folder / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(WeightsError, match=rf"{WEIGHTS}: damaged header"):
        stored_tensors(str(folder))


def test_a_folder_in_the_place_of_weights_is_no_shard(folder):
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    with pytest.raises(WeightsError, match="is missing"):
        stored_tensors(str(folder))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patch_size": 12}, r"patch_size is 12, and the vision tower .* takes 1[46] \(patch_size"),
        ({"merge_size": 1}, r"merge_size is 1, .* takes 2 \(spatial_merge_size\)"),
        ({"temporal_patch_size": 1}, r"temporal_patch_size is 1, .* takes 2"),
        ({"image_processor_type": "SiglipImageProcessor"}, "SiglipImageProcessor, and olmrl cuts"),
        ({"image_processor_type": "Glm4vImageProcessor"}, "the file is of another model"),
        ({"do_normalize": False}, "do_normalize is false, and olmrl always does it"),
        ({"min_pixels": 4000, "max_pixels": 3000}, "must have 4000 to 3000 pixels"),
    ],
)
def test_the_image_processor_of_another_model_is_refused(folder, values, message):
    change_processor(folder, **values)
    for read in (image_settings, lambda path: Encoder(EncoderSpec(path))):
        with pytest.raises(ValueError, match=message) as error:
            read(str(folder))
        assert str(error.value).startswith(f"{folder}: preprocessor_config.json: ")


def test_the_processor_of_another_family_is_refused(folder):
    """Qwen2-VL and Qwen2.5-VL share theirs, and so do the newer two."""
    usual = FAMILIES[folder.name].image_settings.patch_size
    other = 30 - usual
    change_processor(folder, patch_size=other)
    with pytest.raises(ValueError, match=rf"patch_size is {other}, .* takes {usual}"):
        image_settings(str(folder))


@pytest.mark.parametrize("kind", ["Qwen2VLImageProcessor", "Qwen2VLImageProcessorFast", None])
def test_all_published_spellings_of_the_processor_are_taken(folder, published, kind):
    change_processor(folder, image_processor_type=kind)
    assert image_settings(str(folder)) == image_settings(str(published))


@pytest.mark.parametrize("shape", [(1, 1), (10, 10), (2, 300), (300, 2), (1, 200)])
def test_a_page_smaller_than_a_merged_patch_is_enlarged_to_one(published, shape):
    encoder = Encoder(EncoderSpec(str(published)))
    page = encoder.encode_prompt("p", encoder.chat("read"), [np.zeros((*shape, 3), np.uint8)])
    assert (page.image_grid_thw.prod(axis=1) >= 4).all()
    assert len(page.patches) == page.image_grid_thw.prod()


@pytest.mark.parametrize("shape", [(1, 201), (4100, 20)])
def test_a_page_too_long_for_the_model_is_refused(published, shape):
    encoder = Encoder(EncoderSpec(str(published)))
    with pytest.raises(PageRefused, match="too elongated for the model"):
        encoder.encode_prompt("p", encoder.chat("read"), [np.zeros((*shape, 3), np.uint8)])


@pytest.mark.parametrize("token", ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>"])
def test_tokens_of_images_and_videos_in_the_text_are_refused(published, token):
    with pytest.raises(PageRefused, match="the text of the page in it, contains"):
        Encoder(EncoderSpec(str(published))).chat("read", anchor=f"a page about {token}")


VIDEO = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(500)


def test_a_video_where_a_page_is_expected_is_a_bad_page_by_name(tmp_path):
    (tmp_path / "pdfs").mkdir()
    rows = []
    for name in ("clip.mp4", "clip.pdf"):
        (tmp_path / "pdfs" / name).write_bytes(VIDEO)
        test = {"type": "present", "text": "x", "max_diffs": 0}
        rows.append({"pdf": name, "page": 1, "id": name, **test})
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for source in scan_bench(str(tmp_path)):
        with pytest.raises(BadPage, match=r"clip\.\w+, page 1: not a PDF"):
            load_page(source, 200)


def test_rows_and_folders_of_videos_hold_no_pages(tmp_path):
    (tmp_path / "pdfs").mkdir()
    row = {"messages": [{"role": "user", "content": [{"type": "video", "video": "clip.mp4"}]}]}
    (tmp_path / "t.jsonl").write_text(json.dumps(row))
    with pytest.raises(ValueError, match=r"t\.jsonl, line 1: 'pdf' is None, must be a path"):
        scan_bench(str(tmp_path))
    (tmp_path / "clip.mp4").write_bytes(VIDEO)
    (tmp_path / "clip.md").write_text("---\n---\n")
    with pytest.raises(ValueError, match=r"no page pair X\.pdf \+ X\.md in it"):
        scan_pairs(str(tmp_path))
