"""Pages and transcriptions as the model takes them: token ids and image patches.

Bit-equal to what the family's own processor in transformers gives, and much faster: pixel values
have only 256 levels, so rescaling and normalising are one table look-up after patches are cut from
the bytes. Shape letters: P prompt tokens, R response tokens, V patches, D patch width, I images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from transformers.utils import cached_file

from olmrl.data.anchor import anchor_text
from olmrl.data.example import EncodedExample
from olmrl.data.mrope import VisionTokens
from olmrl.data.prompts import IMAGE_PLACEHOLDER, Order, chat_text, load_prompt
from olmrl.data.render import BadPage
from olmrl.types import EncodedPage, Float32Array, Int32Array, Int64Array, Page, UInt8Array

MODEL_TYPES = ("qwen2_5_vl", "qwen2_vl")
"""Values of `model_type` in config.json that are served."""

_END_TOKEN = "<|im_end|>"
_VISION_TOKENS = (
    "<|image_pad|>",
    "<|video_pad|>",
    "<|vision_pad|>",
    "<|vision_start|>",
    "<|vision_end|>",
)


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """Everything that decides how pages are encoded; light, hashable, picklable."""

    model_path: str
    """Hugging Face name or folder of a Qwen2.5-VL-class model."""
    prompt: str = "olmrl-v1"
    """Prompt name (`prompts.load_prompt`)."""
    order: Order = "text_first"
    """Whether the instruction stands before or after the image."""
    anchor_text_len: int = 0
    """Characters of anchor text in the prompt; 0: none."""
    trust_remote_code: bool = False
    """Run code shipped with the checkpoint."""

    def build(self) -> Encoder:
        """Give this process's encoder for the specification (built once)."""
        return _built(self)


@lru_cache(maxsize=4)
def _built(spec: EncoderSpec) -> Encoder:
    return Encoder(
        spec.model_path,
        prompt=spec.prompt,
        order=spec.order,
        anchor_text_len=spec.anchor_text_len,
        trust_remote_code=spec.trust_remote_code,
    )


class Encoder:
    """Tokenizer and image processor of one model.

    Args:
        model_path: Hugging Face name or folder.
        prompt: Prompt name.
        order: Whether the instruction stands before or after the image.
        anchor_text_len: Characters of anchor text in the prompt; 0: none.
        trust_remote_code: Run code shipped with the checkpoint.

    Raises:
        ValueError: not a Qwen2.5-VL-class model, or its tokenizer lacks a needed token.
    """

    def __init__(
        self,
        model_path: str,
        *,
        prompt: str = "olmrl-v1",
        order: Order = "text_first",
        anchor_text_len: int = 0,
        trust_remote_code: bool = False,
    ) -> None:
        self.model_path = model_path
        self.prompt = load_prompt(prompt)
        self._order = order
        self._anchor_text_len = anchor_text_len
        self.vision = vision_tokens(model_path, trust_remote_code)
        self.tokenizer = AutoTokenizer.from_pretrained(
            model_path, trust_remote_code=trust_remote_code
        )
        self._template = _processor_template(model_path)
        self._images = _ImagePatcher(
            AutoImageProcessor.from_pretrained(
                model_path, backend="pil", trust_remote_code=trust_remote_code
            )
        )
        self.end_id = self._id_of(_END_TOKEN)
        vocabulary = self.tokenizer.get_vocab()
        self.banned_ids: tuple[int, ...] = tuple(
            sorted(vocabulary[token] for token in _VISION_TOKENS if token in vocabulary)
        )
        special = {*self.tokenizer.all_special_ids, *self.banned_ids}
        self.plain_ids: Int64Array = np.array(sorted(set(vocabulary.values()) - special), np.int64)
        if self._id_of(IMAGE_PLACEHOLDER) != self.vision.image_token_id:
            raise ValueError(
                f"{model_path}: tokenizer and config.json disagree on the id of {IMAGE_PLACEHOLDER}"
            )
        self._prompt_pieces = lru_cache(maxsize=64)(self._tokenize_prompt)

    def _id_of(self, token: str) -> int:
        vocabulary = self.tokenizer.get_vocab()
        if token not in vocabulary:
            raise ValueError(f"{self.model_path}: its tokenizer lacks the token {token}")
        return int(vocabulary[token])

    def prompt_text(self, page: Page) -> str:
        """Chat text of a page with one image placeholder, anchor text included when asked for."""
        text = None
        if self._anchor_text_len:
            text = anchor_text(page.pdf_path, page.page_number, self._anchor_text_len)
        return self.chat(self.prompt, text, self._order)

    def chat(self, prompt: str, anchor: str | None = None, order: Order | None = None) -> str:
        """Chat text of an instruction and one image."""
        return chat_text(self.tokenizer, prompt, order or self._order, anchor, self._template)

    def encode_page(self, page: Page) -> EncodedPage:
        """Encode the prompt of a page.

        Raises:
            BadPage: its anchor text cannot be made, or breaks the chat text.
        """
        try:
            text = self.prompt_text(page)
        except ValueError as error:
            raise BadPage(page.pdf_path, page.page_number, str(error)) from error
        return self.encode_prompt(page.page_id, text, [page.image])

    def encode_prompt(
        self, page_id: str, text: str, images: Sequence[UInt8Array] | UInt8Array
    ) -> EncodedPage:
        """Encode chat text with one placeholder per image.

        Args:
            page_id: Name of the page.
            text: Chat text.
            images: [H, W, 3] pixels of each image, in order of appearance.

        Raises:
            ValueError: placeholders and images do not match.
        """
        pieces = self._prompt_pieces(text)
        if len(pieces) != len(images) + 1:
            raise ValueError(
                f"{page_id}: {len(pieces) - 1} image placeholders for {len(images)} images"
            )
        encoded = [self._images.encode(image) for image in images]
        grid = np.array([shape for _, shape in encoded], np.int64).reshape(-1, 3)
        parts = [pieces[0]]
        for count, piece in zip(self.vision.count(grid), pieces[1:], strict=True):
            parts += [np.full(int(count), self.vision.image_token_id, np.int64), piece]
        patches = [values for values, _ in encoded]
        return EncodedPage(
            page_id=page_id,
            prompt_ids=np.concatenate(parts),
            pixel_values=patches[0] if len(patches) == 1 else np.concatenate(patches),
            image_grid_thw=grid,
        )

    def _tokenize_prompt(self, text: str) -> list[Int64Array]:
        """Ids before, between and after the image placeholders."""
        ids = np.asarray(self.tokenizer(text)["input_ids"], np.int64)
        at = np.flatnonzero(ids == self.vision.image_token_id)
        return [part[(1 if k else 0) :] for k, part in enumerate(np.split(ids, at))]

    def encode_response(self, text: str) -> Int64Array:
        """[R] ids of a transcription, the end token last.

        Raises:
            ValueError: the text spells a special token of the model.
        """
        ids = np.asarray(self.tokenizer(text, add_special_tokens=False)["input_ids"], np.int64)
        if (
            np.isin(ids, self.tokenizer.all_special_ids).any()
            or np.isin(ids, self.banned_ids).any()
        ):
            raise ValueError("the transcription spells a special token of the model")
        return np.append(ids, self.end_id)

    def encode_example(self, page: EncodedPage, response: str) -> EncodedExample:
        """Join an encoded prompt with its transcription; every response token is learnt."""
        ids = self.encode_response(response)
        return EncodedExample(page, ids, ids)

    def mrope_positions(
        self, token_ids: Int64Array, grid_thw: Int64Array
    ) -> tuple[Int64Array, int]:
        """[3, T] M-RoPE positions and the position a continuation starts from."""
        return self.vision.positions(token_ids, grid_thw)

    def decode(self, token_ids: Int64Array | Int32Array | Sequence[int]) -> str:
        """Text of ids, without special tokens."""
        return str(
            self.tokenizer.decode(
                np.asarray(token_ids).tolist(),
                skip_special_tokens=True,
                clean_up_tokenization_spaces=False,
            )
        )


class _ImagePatcher:
    """One image to normalised patches, bit-equal to the Qwen2-VL image processor."""

    def __init__(self, processor: Any) -> None:
        self._patch = int(processor.patch_size)
        self._merge = int(processor.merge_size)
        self._frames = int(processor.temporal_patch_size)
        self._min_pixels = int(processor.size["shortest_edge"])
        self._max_pixels = int(processor.size["longest_edge"])
        self._resample = Image.Resampling(int(processor.resample))
        levels = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 1, 256))
        scaled = processor.rescale(levels, processor.rescale_factor)
        normal = processor.normalize(scaled, processor.image_mean, processor.image_std)
        self._table: Float32Array = np.ascontiguousarray(normal[:, 0], np.float32)

    def encode(self, image: UInt8Array) -> tuple[Float32Array, tuple[int, int, int]]:
        """Give [V, D] patches and the patch grid (time, height, width) of [H, W, 3] pixels."""
        pixels = self._resized(image)
        rows, columns = pixels.shape[0] // self._patch, pixels.shape[1] // self._patch
        merge, patch = self._merge, self._patch
        blocks = pixels.reshape(rows // merge, merge, patch, columns // merge, merge, patch, 3)
        count, band = rows * columns, merge * columns
        cut = blocks.transpose(6, 0, 3, 1, 4, 2, 5).reshape(3, count, patch * patch)
        patches = np.empty((count, 3, self._frames, patch * patch), np.float32)
        for start in range(0, count, band):  # band by band, so that each stays in the CPU cache
            for channel in range(3):
                values = self._table[channel].take(cut[channel, start : start + band])
                patches[start : start + band, channel] = values[:, None]
        return patches.reshape(count, -1), (1, rows, columns)

    def _resized(self, image: UInt8Array) -> UInt8Array:
        height, width = image.shape[:2]
        new_height, new_width = smart_resize(
            height, width, self._patch * self._merge, self._min_pixels, self._max_pixels
        )
        if (new_height, new_width) == (height, width):
            return image
        resized = Image.fromarray(image).resize((new_width, new_height), self._resample)
        return np.asarray(resized)


def vision_tokens(model_path: str, trust_remote_code: bool = False) -> VisionTokens:
    """How a model writes images into its token stream, from its config.json alone.

    Raises:
        ValueError: no such model, or not of the Qwen2.5-VL class.
    """
    try:
        config = AutoConfig.from_pretrained(model_path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{model_path}: no model can be loaded from there ({reason})") from error
    if config.model_type not in MODEL_TYPES:
        raise ValueError(
            f"{model_path}: model_type is {config.model_type!r}, not a Qwen2.5-VL-class model "
            f"(allowed: {', '.join(MODEL_TYPES)})"
        )
    return VisionTokens(int(config.image_token_id), int(config.vision_config.spatial_merge_size))


def _processor_template(model_path: str) -> str | None:
    """Chat template of the processor, which may differ from the tokenizer's own."""
    options = {"_raise_exceptions_for_missing_entries": False}
    jinja = cached_file(model_path, "chat_template.jinja", **options)
    if jinja is not None:
        with open(jinja, encoding="utf-8") as stream:
            return stream.read()
    legacy = cached_file(model_path, "chat_template.json", **options)
    if legacy is not None:
        with open(legacy, encoding="utf-8") as stream:
            return str(json.load(stream)["chat_template"])
    return None
