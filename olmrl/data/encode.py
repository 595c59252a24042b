"""Pages and transcriptions as the model takes them: token ids and image patches.

Equal to what the family's transformers processor gives, except that patches are not normalised yet.
That processor's imports would cost each process 8 CPU seconds. Shape letters: P prompt tokens,
R response tokens, V patches, I images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from jinja2 import TemplateError

from olmrl.data.encoded import EncodedExample
from olmrl.data.prompts import Order, chat_text, load_prompt
from olmrl.data.render import BadPage
from olmrl.errors import PageRefused
from olmrl.models.files import (
    chat_template,
    check_tokenizer,
    image_settings,
    model_family,
    vision_tokens,
)
from olmrl.models.patches import ImagePatcher
from olmrl.types import (
    EncodedPage,
    Int32Array,
    Int64Array,
    Page,
    RenderedPage,
    UInt8Array,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """Everything that decides how pages are encoded; light, hashable, picklable."""

    model_path: str
    """Hugging Face name or folder of a model of a family that olmrl trains."""
    prompt: str = "olmrl-v1"
    """Prompt name (`prompts.load_prompt`)."""
    order: Order = "text_first"
    """Whether the instruction comes before or after the image."""
    anchor_text_len: int = 0
    """Characters of anchor text in the prompt; 0: none."""
    chat: tuple[tuple[str, Any], ...] = ()
    """Arguments of the chat template, beside and before those of the family."""

    def build(self) -> Encoder:
        """This process's encoder for the specification (built once)."""
        return _built(self)


class Encoder:
    """Tokenizer and image processor of one model.

    Raises:
        ValueError: the model is of no family that olmrl trains, has no tokenizer.json, or its
            tokenizer lacks a needed token.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        model_path = self.model_path = spec.model_path
        self.prompt = load_prompt(spec.prompt)
        self._order = spec.order
        self._anchor_text_len = spec.anchor_text_len
        self.family = model_family(model_path)
        self._chat = self.family.chat_arguments | dict(spec.chat)
        if self._chat.get("enable_thinking"):
            raise ValueError(
                "model.chat: enable_thinking must be false: a page is read without thinking aloud, "
                "and rewards look at all of the answer"
            )
        self.vision = vision_tokens(model_path)
        self.tokenizer = _tokenizer(model_path)
        self._template = chat_template(model_path)
        settings = image_settings(model_path)
        self.normalisation = settings.normalisation
        self._images = ImagePatcher(settings)
        self.end_id = self._id_of(self.family.end_token)
        vocabulary = self.tokenizer.get_vocab()
        added = self.tokenizer.added_tokens_decoder
        special = {*self.tokenizer.all_special_ids, *(i for i in added if added[i].special)}
        special |= {vocabulary[t] for t in self.family.banned_tokens if t in vocabulary}
        # they decode to nothing, so that no reward would see them
        self.banned_ids: tuple[int, ...] = tuple(sorted(special - {self.end_id}))
        self.plain_ids: Int64Array = np.array(sorted(set(vocabulary.values()) - special), np.int64)
        placeholder = self.family.image_token
        if self._id_of(placeholder) != self.vision.image_token_id:
            raise ValueError(
                f"{model_path}: tokenizer and config.json disagree on the id of {placeholder}"
            )
        self._prompt_pieces = lru_cache(maxsize=64)(self._tokenize_prompt)

    def _id_of(self, token: str) -> int:
        vocabulary = self.tokenizer.get_vocab()
        if token not in vocabulary:
            raise ValueError(f"{self.model_path}: its tokenizer lacks the token {token}")
        return int(vocabulary[token])

    def prompt_text(self, page: Page) -> str:
        """Chat text of a page with one image placeholder, and anchor text if that is asked for."""
        text = None
        if self._anchor_text_len:
            # Deferred: pypdf takes half a second of CPU, and few prompts carry anchor text.
            from olmrl.data.anchor import anchor_text  # noqa: PLC0415

            text = anchor_text(page.pdf_path, page.page_number, self._anchor_text_len)
        return self.chat(self.prompt, text, self._order)

    def chat(self, prompt: str, anchor: str | None = None, order: Order | None = None) -> str:
        """Chat text of an instruction and one image."""
        return chat_text(
            self.tokenizer,
            prompt,
            order or self._order,
            self.family,
            arguments=self._chat,
            anchor_text=anchor,
            chat_template=self._template,
        )

    def picture(self, page: EncodedPage) -> UInt8Array:
        """[H, W, 3] pixels of a page with one image, as the model sees it."""
        (grid,) = page.image_grid_thw.tolist()
        return self._images.picture(page.patches, grid)

    def turned(self, page: EncodedPage, degrees: int) -> EncodedPage:
        """A page with one image turned counter-clockwise by 90, 180 or 270 degrees.

        The prompt stays as it is: the image has as many tokens as before.
        """
        pixels = np.ascontiguousarray(np.rot90(self.picture(page), k=degrees // 90))
        patches, grid = self._images.encode(pixels)
        return replace(page, patches=patches, image_grid_thw=np.array([grid], np.int64))

    def check_chat(self) -> None:
        """Encode a blank page, so that a wrong chat template shows before any page is read.

        Raises:
            ValueError: the template, or the tokenizer, does not give one image (names the model).
        """
        blank = np.full((56, 56, 3), 255, np.uint8)
        try:
            for order in get_args(Order):
                self.encode_prompt("a blank page", self.chat("x", order=order), [blank])
        except (ValueError, TemplateError) as error:
            raise ValueError(f"{self.model_path}: {error}") from error

    def encode_page(self, rendered: RenderedPage) -> EncodedPage:
        """Encode the prompt of a page.

        Raises:
            BadPage: its anchor text cannot be made, or breaks the chat text.
        """
        page = rendered.page
        try:
            text = self.prompt_text(page)
        except ValueError as error:
            raise BadPage(page.pdf_path, page.page_number, str(error)) from error
        return self.encode_prompt(page.page_id, text, [rendered.image])

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
            patches=patches[0] if len(patches) == 1 else np.concatenate(patches),
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
            PageRefused: the text spells a special token of the model.
        """
        ids = np.asarray(self.tokenizer(text, add_special_tokens=False)["input_ids"], np.int64)
        if np.isin(ids, [*self.banned_ids, self.end_id]).any():
            raise PageRefused("the transcription spells a special token of the model")
        return np.append(ids, self.end_id)

    def encode_example(self, page: EncodedPage, response: str) -> EncodedExample:
        """Join an encoded prompt with its transcription; every response token is learnt."""
        ids = self.encode_response(response)
        return EncodedExample(page, ids, ids)

    def decode(self, token_ids: Int64Array | Int32Array | Sequence[int]) -> str:
        """Text of ids, without special tokens."""
        return str(
            self.tokenizer.decode(
                np.asarray(token_ids).tolist(),
                skip_special_tokens=True,
                clean_up_tokenization_spaces=False,
            )
        )


def _tokenizer(model_path: str) -> PreTrainedTokenizerFast:
    # Deferred: 1.4 s of CPU, which a process that only names an encoder need not spend.
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    try:
        found: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(model_path)
        return found
    except Exception as error:  # whatever its own code makes of a damaged file
        check_tokenizer(model_path)
        reason = str(error).splitlines()[0]
        raise ValueError(f"{model_path}: its tokenizer cannot be loaded ({reason})") from error


_built = lru_cache(maxsize=4)(Encoder)
