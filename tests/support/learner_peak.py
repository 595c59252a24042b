"""A learner step of two equal rows, whose peak memory the tests measure and predict."""

from dataclasses import dataclass

import numpy as np
import torch

from olmrl.cluster.memory import Row
from olmrl.config.schema import AlgorithmConfig, CorrectionConfig, LearnerConfig, ModelConfig
from olmrl.data.pack import GroupItem, ScoredCompletion, pack_groups
from olmrl.learner.core import GrpoLearner
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.model import prepare_policy
from olmrl.learner.strategy_fsdp import FsdpStrategy
from olmrl.models.family import TinySize
from olmrl.models.mrope import VisionTokens
from olmrl.models.registry import FAMILIES
from olmrl.synth.model import make_config, make_tokenizer
from olmrl.types import EncodedPage

NO_ENGINE = CorrectionConfig(level="none")
"""No engine sampled these tokens, so nothing is corrected for one."""

GROUP = 8


@dataclass(frozen=True)
class Case:
    """One shape of work."""

    size: TinySize
    tokens: int
    side: int
    """Merged image tokens along a side of the page."""
    checkpointing: bool
    dtype: str = "float32"
    vocabulary: int = 512
    chunk: int = 256
    family: str = "qwen2_5_vl"


class Step:
    """A learner with its packed rows, ready to be run and to be predicted."""

    def __init__(self, case: Case, device: str = "cpu"):
        described = make_config(
            make_tokenizer(["a page of words"]), case.size, 0.02, FAMILIES[case.family]
        )
        described.text_config.vocab_size = case.vocabulary
        if case.family == "qwen2_5_vl":
            described.vision_config.fullatt_block_indexes = [case.size.vision_depth - 1]
        self.model = ModelConfig(path="random", dtype=case.dtype)
        self.learner = LearnerConfig(
            use_gpu=device == "cuda",
            activation_checkpointing=case.checkpointing,
            logprob_chunk=case.chunk,
        )
        torch.manual_seed(0)
        network = FAMILIES[case.family].model_class()(described).to(device)
        network = prepare_policy(network, self.model, activation_checkpointing=case.checkpointing)
        self.strategy = FsdpStrategy(
            network, self.model, self.learner, HeadSpec(chunk=case.chunk), total_steps=10
        )
        self.shape = self.strategy.shape
        self.rows = self._rows(case, described.image_token_id)
        first = self.rows[0]
        prompt = case.side**2 + 12
        self.row = Row(
            first.num_tokens,
            len(first.patches),
            len(first.targets),
            keys=first.num_tokens + GROUP * prompt,
        )
        self._grpo = GrpoLearner(
            self.strategy,
            AlgorithmConfig(correction=NO_ENGINE),
            max_tokens=10**6,
        )

    def _rows(self, case: Case, image_token: int):
        rng = np.random.default_rng(0)
        width = 3 * FAMILIES[case.family].image_settings.patch_size ** 2
        image = np.full(case.side**2, image_token)
        prompt = np.concatenate([rng.integers(20, 200, 8), image, rng.integers(20, 200, 4)])
        length = (case.tokens - len(prompt)) // GROUP
        page = EncodedPage(
            page_id="page",
            prompt_ids=prompt.astype(np.int64),
            patches=rng.integers(0, 256, (4 * case.side**2, width), np.uint8),
            image_grid_thw=np.asarray([[1, 2 * case.side, 2 * case.side]], np.int64),
        )
        completions = [
            ScoredCompletion(
                rng.integers(20, 200, length).astype(np.int32),
                np.full(length, -5.0, np.float32),
                float(rng.normal()),
                np.ones(length, np.float32),
            )
            for _ in range(GROUP)
        ]
        item = GroupItem(page, completions)
        budget = len(prompt) + GROUP * length
        return pack_groups([item, item], budget, True, VisionTokens(image_token, 2))

    def run(self):
        self._grpo.step(self.rows)
