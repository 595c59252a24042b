import pytest
import torch
from transformers import AutoProcessor, AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from olmrl.synth.model import SPECIAL_TOKENS, gather_texts, make_model, make_tokenizer

TEXTS = ["---\nprimary_language: en\n---\n# moon lake\n\nbird fish wind"] * 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(TEXTS, tmp_path_factory.mktemp("model"), seed=3)


def test_transformers_loads_it_and_reads_a_page(folder):
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder, use_fast=False)
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "bird"}]}]
    prompt = processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    image = torch.full((168, 140, 3), 255, dtype=torch.uint8).numpy()
    batch = processor(text=[prompt], images=[image], return_tensors="pt")
    # 168 x 140 pixels are 12 x 10 patches of 14 pixels, merged 2 x 2: 30 tokens.
    assert (batch["input_ids"] == model.config.image_token_id).sum() == 30
    with torch.no_grad():
        logits = model(**batch).logits
    assert logits.shape[-1] == model.config.text_config.vocab_size
    assert logits.isfinite().all()


def test_white_paper_is_zero(folder):
    processor = AutoProcessor.from_pretrained(folder, use_fast=False)
    image = torch.full((56, 56, 3), 255, dtype=torch.uint8).numpy()
    pixels = processor.image_processor([image], return_tensors="pt")["pixel_values"]
    assert pixels.abs().max() < 1e-6


def test_tokenizer_round_trips_any_text_and_keeps_words_whole(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in (TEXTS[0], "naïve 中文 <td>1</td>\n\n| a | b |\n|---|---|"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer(" moon lake")["input_ids"]) == 2


def test_special_tokens_are_single_and_ends_are_set(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for token in SPECIAL_TOKENS:
        assert len(tokenizer(token)["input_ids"]) == 1
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.eos_token_id == model.generation_config.eos_token_id == end
    assert model.config.text_config.vocab_size % 64 == 0


def test_chat_template_is_the_family_s_turn(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turn = [{"role": "user", "content": [{"type": "text", "text": "read"}, {"type": "image"}]}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>user\nread<|vision_start|><|image_pad|><|vision_end|><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_same_seed_same_bytes_other_seed_other_weights(folder, tmp_path):
    again = make_model(TEXTS, tmp_path / "again", seed=3)
    other = make_model(TEXTS, tmp_path / "other", seed=4)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (folder / name).read_bytes() == (again / name).read_bytes()
    weights = "model.safetensors"
    assert (folder / weights).read_bytes() != (other / weights).read_bytes()


def test_head_sizes_are_served_by_vllm_s_cpu_attention(tmp_path):
    for size in ("tiny", "small"):
        made = make_model(TEXTS, tmp_path / size, size=size)
        config = Qwen2_5_VLForConditionalGeneration.from_pretrained(made).config
        text, vision = config.text_config, config.vision_config
        assert text.hidden_size // text.num_attention_heads == 32
        assert vision.hidden_size // vision.num_heads == 32
        assert vision.fullatt_block_indexes == list(range(vision.depth))


def test_mistakes_end_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="'huge' is unknown"):
        make_model(TEXTS, tmp_path, size="huge")
    with pytest.raises(ValueError, match="too small"):
        make_tokenizer(TEXTS, 100)
    with pytest.raises(ValueError, match="non-empty"):
        make_tokenizer(["  "])
    with pytest.raises(ValueError, match="no such file"):
        gather_texts([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match=r"no \.md or \.txt"):
        gather_texts([tmp_path])
