from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    Qwen2_5_VLProcessor,
    Qwen2VLVideoProcessor,
)
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

from olmrl.data.encode import Encoder, EncoderSpec
from olmrl.models.mrope import VisionTokens
from olmrl.models.pixels import normalise
from olmrl.synth.model import make_model
from olmrl.types import Page, RenderedPage, UInt8Array

SIZES = [(56, 56), (140, 84), (300, 201), (29, 700), (997, 641), (1288, 996)]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def page(image: np.ndarray) -> RenderedPage:
    return RenderedPage(Page(page_id="a.pdf::1", pdf_path="a.pdf", page_number=1), image)


def as_seen(encoder: Encoder, patches: UInt8Array) -> np.ndarray:
    """What the vision tower takes."""
    return normalise(torch.from_numpy(patches), encoder.normalisation, torch.float32).numpy()


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> Encoder:
    return Encoder(EncoderSpec(str(tiny_model)))


@pytest.fixture(scope="module")
def processor(tiny_model: Path) -> Qwen2_5_VLProcessor:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    return Qwen2_5_VLProcessor(
        image_processor=AutoImageProcessor.from_pretrained(tiny_model, backend="pil"),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=tokenizer.chat_template,
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", ["text_first", "image_first"])
def test_equal_to_the_processor_of_transformers(tiny_model, encoder, processor, size, order):
    image = noise(*size)
    content = [{"type": "text", "text": encoder.prompt}, {"type": "image"}]
    messages = [
        {"role": "user", "content": content if order == "text_first" else content[::-1]},
    ]
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    expected = processor(text=[text], images=[Image.fromarray(image)], return_tensors="np")
    ordered = Encoder(EncoderSpec(str(tiny_model), order=order))
    got = ordered.encode_page(page(image))
    assert ordered.prompt_text(page(image).page) == text
    np.testing.assert_array_equal(got.prompt_ids, expected["input_ids"][0])
    np.testing.assert_array_equal(as_seen(encoder, got.patches), expected["pixel_values"])
    np.testing.assert_array_equal(got.image_grid_thw, expected["image_grid_thw"])
    encoder.vision.check(got.prompt_ids, got.image_grid_thw, len(got.patches))
    assert (got.patches.dtype, got.prompt_ids.dtype) == (np.uint8, np.int64)
    assert got.patches.nbytes * 8 == expected["pixel_values"].nbytes


def test_several_images_in_one_prompt(encoder, processor):
    images = [noise(100, 200, 1), noise(84, 84, 2)]
    text = (
        "<|vision_start|><|image_pad|><|vision_end|>a<|vision_start|><|image_pad|><|vision_end|>b"
    )
    expected = processor(
        text=[text], images=[Image.fromarray(i) for i in images], return_tensors="np"
    )
    got = encoder.encode_prompt("p", text, images)
    np.testing.assert_array_equal(got.prompt_ids, expected["input_ids"][0])
    np.testing.assert_array_equal(as_seen(encoder, got.patches), expected["pixel_values"])
    with pytest.raises(ValueError, match="2 image placeholders for 1 images"):
        encoder.encode_prompt("p", text, images[:1])


def rope_index(tiny_model: Path, ids: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, int]:
    """What transformers itself computes, without building a model."""
    config = AutoConfig.from_pretrained(tiny_model)
    shell = Qwen2_5_VLModel.__new__(Qwen2_5_VLModel)
    torch.nn.Module.__init__(shell)
    shell.config = config
    tokens = torch.from_numpy(ids)[None]
    positions, delta = shell.get_rope_index(
        tokens,
        mm_token_type_ids=(tokens == config.image_token_id).long(),
        image_grid_thw=torch.from_numpy(grid),
    )
    return positions[:, 0].numpy(), int(delta) + len(ids)


@pytest.mark.parametrize("sizes", [[(56, 56)], [(140, 84)], [(84, 500)], [(90, 60), (60, 200)]])
@pytest.mark.parametrize("tail", [0, 1, 17])
def test_positions_equal_transformers(tiny_model: Path, encoder: Encoder, sizes, tail):
    text = "head" + "".join("<|vision_start|><|image_pad|><|vision_end|>mid" for _ in sizes)
    encoded = encoder.encode_prompt("p", text, [noise(*size) for size in sizes])
    ids = np.concatenate([encoded.prompt_ids, np.full(tail, 60)])
    expected, expected_next = rope_index(tiny_model, ids, encoded.image_grid_thw)
    got, next_position = encoder.vision.positions(ids, encoded.image_grid_thw)
    np.testing.assert_array_equal(got, expected)
    assert next_position == expected_next


def test_positions_of_a_small_image_by_hand():
    vision = VisionTokens(image_token_id=9, merge_size=2)
    ids = np.array([1, 9, 9, 9, 9, 9, 9, 2, 3])
    positions, following = vision.positions(ids, np.array([[1, 4, 6]]))
    assert positions.tolist() == [
        [0, 1, 1, 1, 1, 1, 1, 4, 5],
        [0, 1, 1, 1, 2, 2, 2, 4, 5],
        [0, 1, 2, 3, 1, 2, 3, 4, 5],
    ]
    assert following == 6


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 9, 9, 2], "2 image tokens, but its images have 6 features"),
        ([9, 9, 1, 9, 9, 9, 9], "not contiguous"),
    ],
)
def test_placeholders_that_do_not_fit_the_grid(ids: list[int], message: str):
    with pytest.raises(ValueError, match=message):
        VisionTokens(9, 2).positions(np.array(ids), np.array([[1, 4, 6]]))


def test_response_decodes_to_its_text_and_learns_its_end(encoder: Encoder):
    text = "---\nprimary_language: en\n---\n\\(x^2\\) caf\u00e9 \u4e2d"
    example = encoder.encode_example(encoder.encode_page(page(noise(60, 60))), text)
    assert encoder.decode(example.labels) == text
    assert example.labels[-1] == encoder.end_id == example.response_ids[-1]
    assert example.num_tokens == len(example.page.prompt_ids) + len(example.response_ids)


@pytest.mark.parametrize("token", ["<|im_end|>", "<|image_pad|>", "<|im_start|>"])
def test_transcriptions_must_not_spell_special_tokens(encoder: Encoder, token: str):
    with pytest.raises(ValueError, match="special token"):
        encoder.encode_response(f"a {token} b")


def test_all_special_ids_are_banned_but_the_end(encoder: Encoder):
    names = encoder.tokenizer.convert_ids_to_tokens(list(encoder.banned_ids))
    assert set(names) == {
        "<|endoftext|>",
        "<|im_start|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|vision_pad|>",
        "<|image_pad|>",
        "<|video_pad|>",
    }


def test_spec_builds_one_encoder_per_process(tiny_model: Path):
    spec = pickle.loads(pickle.dumps(EncoderSpec(str(tiny_model), order="image_first")))
    assert spec.build() is EncoderSpec(str(tiny_model), order="image_first").build()
    assert spec.build().encode_page(page(noise(60, 60))).page_id == "a.pdf::1"


def test_a_model_that_cannot_be_asked_for_is_said_to_be_out_of_reach(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"nobody/nothing: .* the Hub cannot be reached"):
        Encoder(EncoderSpec("nobody/nothing"))


def test_paths_that_are_no_vision_language_model(tiny_model: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="missing: no such folder"):
        Encoder(EncoderSpec(str(tmp_path / "missing")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no model can be loaded"):
        Encoder(EncoderSpec(str(tmp_path / "empty")))
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    with pytest.raises(ValueError, match="type is 'qwen2', which olmrl cannot"):
        Encoder(EncoderSpec(str(tmp_path / "text")))
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "image_token_id": 3}))
    with pytest.raises(ValueError, match="disagree on the id"):
        Encoder(EncoderSpec(str(copy)))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[0].content[0].text }}", "chat template writes 0 image placeholders for one"),
        ("<|image_pad|><|image_pad|>", "chat template writes 2 image placeholders for one"),
        ("{{ raise_exception('no roles here') }}", "no roles here"),
        ("{% if %}", "Expected an expression"),
    ],
)
def test_a_template_that_does_not_fit_is_found_before_any_page(
    tiny_model: Path, tmp_path: Path, template: str, message: str
):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ValueError, match=message) as caught:
        Encoder(EncoderSpec(str(folder))).check_chat()
    assert str(caught.value).startswith(f"{folder}: ")
    Encoder(EncoderSpec(str(tiny_model))).check_chat()


def test_pages_whose_text_spells_the_placeholder_are_bad(tiny_model: Path, tmp_path: Path):
    from data_pdfs import write_pdf

    from olmrl.data.page import PageSource, load_page
    from olmrl.data.render import BadPage

    path = write_pdf(tmp_path / "a.pdf", lines=["an <|image_pad|> in the text"])
    loaded = load_page(PageSource("a.pdf::1", str(path), 1), 100)
    anchored = Encoder(EncoderSpec(str(tiny_model), anchor_text_len=500))
    with pytest.raises(BadPage, match=r"the text of the page in it, contains <\|image_pad\|>"):
        anchored.encode_page(loaded)


CHAT = (
    "{% for m in messages %}{% for part in m.content %}{{ part.text or '<|image_pad|>' }}"
    "{% endfor %}{% endfor %}{{ greeting }}{% if not enable_thinking %}<closed>{% endif %}"
)


def test_chat_arguments_reach_the_template(tmp_path: Path):
    folder = make_model(["a page"] * 5, tmp_path / "m", vocab_size=320, family="qwen3_5")
    (folder / "chat_template.jinja").write_text(CHAT)
    spec = EncoderSpec(str(folder))
    plain = spec.build().chat("read")
    greeted = replace(spec, chat=(("greeting", "hello"),)).build().chat("read")
    assert plain.endswith("<closed>") and greeted.endswith("hello<closed>")
    with pytest.raises(ValueError, match=r"model\.chat: enable_thinking must be false"):
        replace(spec, chat=(("enable_thinking", True),)).build()
