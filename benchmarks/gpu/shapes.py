"""Models as wide as Qwen2.5-VL-7B and as deep as the memory plan allows, and pages for them.

In a rehearsal the same functions give tiny shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stage import Context, Unsuited

from olmrl.cluster.memory import RUNTIME_BYTES, Row, learner_memory, total
from olmrl.config.schema import LearnerConfig, ModelConfig
from olmrl.data.encoded import EncodedExample
from olmrl.data.pack import GroupItem, ScoredCompletion
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.model import TORCH_DTYPES, prepare_policy
from olmrl.learner.strategy_fsdp import FsdpStrategy
from olmrl.models.family import Family
from olmrl.models.mrope import VisionTokens
from olmrl.models.registry import FAMILIES
from olmrl.models.shape import ModelShape
from olmrl.models.spans import find_spans
from olmrl.types import EncodedPage, PackedBatch

FAMILY = FAMILIES["qwen2_5_vl"]
PUBLISHED = "Qwen/Qwen2.5-VL-7B-Instruct"
IMAGE_TOKEN = 151655
_IDS = (20, 64)
"""Range of random token ids: no special token, and in every vocabulary here."""
_TINY: Mapping[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 160,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "vision_config": {"hidden_size": 32, "depth": 2, "intermediate_size": 48, "patch_size": 14},
}


@dataclass(frozen=True)
class Sizes:
    """A width and what of it is full depth."""

    text: Mapping[str, Any]
    image_token: int

    @property
    def layers(self) -> int:
        """Language layers of the whole model."""
        return int(self.text["num_hidden_layers"])

    def config(self, layers: int) -> Any:
        """transformers' configuration with this many language layers."""
        vision = dict(self.text["vision_config"])
        heads = self.text["num_attention_heads"]
        pairs = self.text["hidden_size"] // heads // 2
        quarter = pairs // 4
        depth = vision["depth"]
        return FAMILY.config_class()(
            text_config={
                **{k: v for k, v in self.text.items() if k != "vision_config"},
                "num_hidden_layers": layers,
                "max_position_embeddings": 65536,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 1e6,
                    # as published for 128: 16, 24, 24
                    "mrope_section": [quarter, *[(pairs - quarter) // 2] * 2],
                },
                "bos_token_id": None,
                "eos_token_id": 2,
                "pad_token_id": 0,
            },
            vision_config={
                **vision,
                "num_heads": max(2, vision["hidden_size"] // 80),
                "out_hidden_size": self.text["hidden_size"],
                "fullatt_block_indexes": list(range(depth // 4 - 1, depth, max(1, depth // 4)))
                if depth >= 4
                else [depth - 1],
            },
            image_token_id=self.image_token,
            tie_word_embeddings=False,
        )

    def shape(self, layers: int) -> ModelShape:
        """Its sizes, as plans take them."""
        return FAMILY.shape(self.config(layers).to_dict())

    @property
    def vision(self) -> VisionTokens:
        """How images are written into its rows."""
        return VisionTokens(self.image_token, FAMILY.image_settings.merge_size)


def sizes(context: Context) -> Sizes:
    """7B width, or a tiny one in a rehearsal."""
    if context.rehearsal:
        return Sizes(_TINY, 6)
    return Sizes(FAMILY.published[PUBLISHED], IMAGE_TOKEN)


def planned(
    shape: ModelShape, model: ModelConfig, learner: LearnerConfig, batches: Sequence[PackedBatch]
) -> float:
    """Bytes that the plan predicts for a step on these rows: those of the most demanding row."""
    return max(total(learner_memory(shape, model, learner, row_of(batch))) for batch in batches)


def row_of(batch: PackedBatch) -> Row:
    """A packed row as the plan describes it."""
    spans = find_spans(batch.segment_ids, batch.prefix_ids)
    return Row(
        batch.num_tokens, len(batch.patches), len(batch.targets), sum(span.keys for span in spans)
    )


def deepest(
    context: Context, wanted: Sizes, bytes_of: Callable[[ModelShape], float]
) -> tuple[int, str]:
    """Most language layers whose plan fits, and a sentence that says so.

    Args:
        context: of the stage; its memory is the bound.
        wanted: the width and the full depth.
        bytes_of: the plan's bytes of a shape.

    Raises:
        Unsuited: not even one layer fits.
    """
    runtime = 0.0 if context.rehearsal else RUNTIME_BYTES
    for layers in range(wanted.layers, 0, -1):
        need = bytes_of(wanted.shape(layers)) + runtime
        if need <= context.memory:
            shrunk = "" if layers == wanted.layers else ", shrunk by the plan"
            return layers, (
                f"{layers} of {wanted.layers} layers{shrunk}: they need {_gib(need)} by the plan, "
                f"{_gib(context.memory)} may be held"
            )
    raise Unsuited(
        f"the card is too small: by the plan one layer needs {_gib(need)}, and "
        f"{_gib(context.memory)} may be held"
    )


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**28 else f"{size / 2**20:.2f} MiB"


def build(
    wanted: Sizes,
    layers: int,
    model: ModelConfig,
    learner: LearnerConfig,
    device: str,
    *,
    total_steps: int = 1000,
) -> FsdpStrategy:
    """A random model of this depth under the learner's own strategy, made on the device."""
    torch.manual_seed(0)
    with torch.device(device):
        network = FAMILY.model_class()._from_config(
            wanted.config(layers),
            dtype=TORCH_DTYPES[model.master_dtype],
            attn_implementation="sdpa",
        )
    network = prepare_policy(
        network,
        model,
        activation_checkpointing=learner.activation_checkpointing,
        compile_blocks=learner.compile,
    )
    head = HeadSpec(chunk=learner.logprob_chunk)
    return FsdpStrategy(network, model, learner, head, total_steps=total_steps)


def make_page(
    family: Family, vision: VisionTokens, prompt: int, grid: tuple[int, int], number: int = 0
) -> EncodedPage:
    """A page of random patches whose prompt has this many tokens, its image's included."""
    rng = np.random.default_rng(number)
    image = np.full(grid[0] * grid[1] // vision.merge_size**2, vision.image_token_id)
    text = rng.integers(*_IDS, prompt - len(image))
    width = 3 * family.image_settings.patch_size**2
    return EncodedPage(
        page_id=f"page-{number}",
        prompt_ids=np.concatenate([text[:5], image, text[5:]]).astype(np.int64),
        patches=rng.integers(0, 256, (grid[0] * grid[1], width), np.uint8),
        image_grid_thw=np.asarray([[1, *grid]], np.int64),
    )


def make_group(page: EncodedPage, lengths: Sequence[int], number: int = 1) -> GroupItem:
    """A page with completions of these lengths."""
    rng = np.random.default_rng(number)
    return GroupItem(
        page,
        [
            ScoredCompletion(
                token_ids=rng.integers(*_IDS, length).astype(np.int32),
                logprobs=np.full(length, -7.0, np.float32),
                advantage=float(rng.normal()),
                weights=np.ones(length, np.float32),
            )
            for length in lengths
        ],
    )


def make_example(page: EncodedPage, response: int, number: int) -> EncodedExample:
    """A transcribed page of random ids."""
    ids = np.random.default_rng(number).integers(*_IDS, response).astype(np.int64)
    return EncodedExample(page, ids, ids)
