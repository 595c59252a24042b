"""Steps that write the answer and turn the page into token ids.

See docs/formats.md#tokens-and-labels.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from olmrl.data.encoded import IGNORED
from olmrl.data.steps.sample import STRICT, Dropped, Kind, Sample, Step, StepContext, dropped
from olmrl.errors import PageRefused
from olmrl.markup import front_matter


@dataclass(frozen=True, config=STRICT)
class JSONOutputFormat(Step):
    """The answer as a JSON object of six fields (legacy models)."""

    needs: ClassVar[tuple[str, ...]] = ("truth",)
    gives: ClassVar[tuple[str, ...]] = ("response",)

    def __call__(self, sample: Sample, context: StepContext) -> Sample:
        """Set `response`, if there is a truth."""
        if sample.truth is None:
            return sample
        return replace(sample, response=json.dumps(asdict(sample.truth), ensure_ascii=False))


@dataclass(frozen=True, config=STRICT)
class FrontMatterOutputFormat(Step):
    """The answer as front matter and markdown; a missing language is written `null`."""

    needs: ClassVar[tuple[str, ...]] = ("truth",)
    gives: ClassVar[tuple[str, ...]] = ("response",)

    def __call__(self, sample: Sample, context: StepContext) -> Sample:
        """Set `response`, if there is a truth."""
        if sample.truth is None:
            return sample
        return replace(sample, response=front_matter.format(sample.truth).strip())


@dataclass(frozen=True, config=STRICT)
class Tokenizer(Step):
    """Token ids and patches; labels mask the prompt, the end of the message is learnt."""

    needs: ClassVar[tuple[str, ...]] = ("image", "instruction", "response", "order")
    gives: ClassVar[tuple[str, ...]] = ("example",)

    masking_index: Literal[-100] = IGNORED
    """Label of tokens that are not learnt."""
    end_of_message_token: Literal["<|im_end|>"] = "<|im_end|>"
    """The token that ends the answer."""

    def __call__(self, sample: Sample, context: StepContext) -> Sample | Dropped:
        """Set `example`."""
        image, order = sample.image, sample.order
        instruction, response = sample.instruction, sample.response
        assert image is not None and order is not None  # Pipeline.check made sure
        assert instruction is not None and response is not None
        encoder = context.needed_encoder()
        try:
            text = encoder.chat(instruction, None, order)
            page = encoder.encode_prompt(sample.source.page_id, text, [image])
            return replace(sample, example=encoder.encode_example(page, response))
        except PageRefused as error:
            return dropped(sample, self, str(error))


@dataclass(frozen=True, config=STRICT)
class RandomTokenFlipper(Step):
    """Replaces a token now and then with a wrong one that is not learnt (robust decoding)."""

    kind: ClassVar[Kind] = "augmentation"
    needs: ClassVar[tuple[str, ...]] = ("example",)

    token_flip_rate: Annotated[float, Field(ge=0, le=1)] = 1e-4
    """Chance of each target token, the end token included."""
    masking_index: Literal[-100] = IGNORED
    """Label of flipped tokens."""

    def __call__(self, sample: Sample, context: StepContext) -> Sample:
        """Change `example`: flipped tokens are read, their labels masked."""
        if sample.example is None:
            return sample
        example = sample.example
        hit = context.random.random(len(example.labels)) < self.token_flip_rate
        hit &= example.labels != self.masking_index
        others = context.random.choice(context.needed_encoder().plain_ids, len(example.labels))
        flipped = replace(
            example,
            response_ids=np.where(hit, others, example.response_ids),
            labels=np.where(hit, self.masking_index, example.labels),
        )
        return replace(sample, example=flipped)
