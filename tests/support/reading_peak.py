"""A transcription of equal pages, whose peak memory the tests measure and predict."""

from dataclasses import dataclass

import numpy as np
from live_bytes import LiveBytes

from olmrl.cluster.shape import model_shape
from olmrl.cluster.workload import Workload
from olmrl.config.schema import LearnerConfig, ModelConfig
from olmrl.data.encode import Encoder, EncoderSpec
from olmrl.learner.build import build_strategy, head_spec
from olmrl.learner.generation import generate_greedily, whole_copy
from olmrl.models.family import TinySize
from olmrl.synth import model as synth
from olmrl.types import EncodedPage


@dataclass
class Reading:
    """One shape of work."""

    size: TinySize
    pages: int
    side: int
    """Merged image tokens along a side of the page."""
    text: int
    """Prompt tokens around the image."""
    max_tokens: int
    dtype: str = "float32"
    family: str = "qwen2_5_vl"

    def measure(self, folder):
        """Bytes of the whole copy, and what reading takes beside it at most."""
        synth.SIZES["measured"] = self.size
        path = synth.make_model(
            ["a page of words"] * 9, folder, size="measured", vocab_size=512, family=self.family
        )
        del synth.SIZES["measured"]
        self.model = ModelConfig(path=str(path), dtype=self.dtype)
        self.shape = model_shape(str(path))
        learner = LearnerConfig(use_gpu=False, activation_checkpointing=False)
        strategy = build_strategy(self.model, learner, head_spec(learner), total_steps=1)
        encoder = Encoder(EncoderSpec(str(path)))
        encoder.end_id = encoder.banned_ids[0]  # never drawn: every page is read to max_tokens
        prompts = [self._page(encoder) for _ in range(self.pages)]
        self.work = Workload(
            len(prompts[0].patches), len(prompts[0].prompt_ids), 0.0, self.max_tokens, 0
        )
        options = {"max_tokens": self.max_tokens, "batch_pages": self.pages}
        with LiveBytes() as live:
            copy = whole_copy(strategy, self.model)
            held = live.now
            live.reset()
            assert all(
                len(ids) == self.max_tokens
                for ids in generate_greedily(copy, prompts, encoder, **options)
            )
        # bytes lie in numpy memory on a CPU, where no tensor operation makes them
        return held, live.peak - held + sum(page.patches.nbytes for page in prompts)

    def _page(self, encoder):
        rng = np.random.default_rng(0)
        image = np.full(self.side**2, encoder.vision.image_token_id)
        ids = np.concatenate([rng.integers(100, 200, self.text), image]).astype(np.int64)
        grid = np.asarray([[1, 2 * self.side, 2 * self.side]], np.int64)
        width = 3 * encoder.family.image_settings.patch_size**2
        patches = rng.integers(0, 256, (4 * self.side**2, width), np.uint8)
        return EncodedPage("page", ids, patches, grid)
