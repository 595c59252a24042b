"""An engine behind a RolloutWorker, and the plain transformers model it is compared with."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from olmrl.config.schema import LoraConfig, RolloutConfig
from olmrl.data.encode import EncoderSpec
from olmrl.data.payload import pack_block
from olmrl.rollout.worker import WorkerSpec, actor_class
from olmrl.types import Completion, Page, PolicyVersion, RenderedPage, SamplingSpec
from olmrl.weight_sync.bucket import Publication
from olmrl.weight_sync.publication import pack

PROMPT = (
    "<|im_start|>user\nread<|vision_start|><|image_pad|><|vision_end|><|im_end|>\n"
    "<|im_start|>assistant\n"
)
MAX_MODEL_LEN = 1024
DRAW = SamplingSpec(temperature=0.7, top_p=1.0, max_tokens=24)


class Reference:
    """The model in plain transformers, and what it thinks of a completion."""

    def __init__(self, path: Path) -> None:
        self.model = AutoModelForImageTextToText.from_pretrained(
            path, dtype=torch.float32, key_mapping={r"^module\.": ""}
        )
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.images = AutoImageProcessor.from_pretrained(path, backend="pil")
        end = self.tokenizer.convert_tokens_to_ids("<|im_end|>")
        self.banned = [token for token in self.tokenizer.all_special_ids if token != end]
        self.image_id = self.tokenizer.convert_tokens_to_ids("<|image_pad|>")

    def prompt_ids(self, page: RenderedPage) -> tuple[list[int], Any]:
        inputs = self.images(images=[Image.fromarray(page.image)], return_tensors="pt")
        count = int(inputs["image_grid_thw"].prod()) // 4
        text = PROMPT.replace("<|image_pad|>", "<|image_pad|>" * count)
        return self.tokenizer(text)["input_ids"], inputs

    @torch.no_grad()
    def logprobs(self, page: RenderedPage, tokens: np.ndarray, temperature: float) -> np.ndarray:
        prompt, inputs = self.prompt_ids(page)
        ids = torch.tensor([[*prompt, *tokens.tolist()]])
        logits = self.model(
            input_ids=ids, mm_token_type_ids=(ids == self.image_id).long(), **inputs
        ).logits[0, len(prompt) - 1 : -1]
        logits = logits / temperature
        logits[:, self.banned] = -torch.inf
        every = logits.log_softmax(-1)
        return every.gather(-1, torch.tensor(tokens.tolist())[:, None])[:, 0].numpy()

    def perturb(self, seed: int, only: str = "", scale: float = 0.05) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if only in name:
                    parameter += torch.randn(parameter.shape, generator=generator) * scale

    def round(self, dtype: torch.dtype, kept: str) -> None:
        """Round the weights to a dtype, but for those whose names match `kept`."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if not re.fullmatch(kept, name):
                    parameter.copy_(parameter.to(dtype))

    def publication(self, version: PolicyVersion) -> Publication:
        packed = pack(self.model.state_dict().items(), 300_000)
        return Publication(version, tuple(replace(b, data=ray.put(b.data)) for b in packed), 0)


class Driver:
    """Speaks to a RolloutWorker as the pool does."""

    def __init__(self, handle: Any, path: Path, caches_features: bool) -> None:
        self.handle = handle
        self.path = path
        self.caches_features = caches_features
        self.count = 0
        self.step = 0

    def call(self, method: str, *arguments: Any) -> Any:
        return ray.get(getattr(self.handle, method).remote(*arguments))

    def block(self, page: RenderedPage) -> Any:
        encoder = EncoderSpec(str(self.path)).build()
        return pack_block(encoder.encode_prompt(page.page.page_id, PROMPT, [page.image]))

    def score(self, page: RenderedPage, tokens: np.ndarray, temperature: float) -> np.ndarray:
        return self.call("score", self.block(page), tokens, temperature)

    def submit(
        self, page: RenderedPage, sampling: SamplingSpec, seeds: tuple[int, ...], wanted: Any = None
    ) -> str:
        self.count += 1
        group_id = f"group-{self.count}"
        self.call("submit", group_id, self.block(page), sampling, seeds, wanted)
        return group_id

    def gather(self, number: int) -> list[Completion]:
        found: list[Completion] = []
        deadline = time.monotonic() + 120
        while len(found) < number:
            assert time.monotonic() < deadline, f"{len(found)} of {number} completions in 120 s"
            found += self.call("poll", 1.0).outputs
        assert len(found) == number
        return sorted(found, key=lambda c: (c.group_id, c.index))

    def generate(
        self, page: RenderedPage, sampling: SamplingSpec, seeds: tuple[int, ...] = tuple(range(6))
    ) -> list[Completion]:
        self.submit(page, sampling, seeds)
        return self.gather(len(seeds))

    def sync(self, reference: Reference, in_flight: str = "recompute") -> PolicyVersion:
        self.step += 1
        version = PolicyVersion(1, self.step)
        assert self.call("sync", reference.publication(version), in_flight) == version
        return version

    def fresh(self) -> Reference:
        """The base weights, put back into the engine."""
        reference = Reference(self.path)
        self.sync(reference)
        return reference


def check_tokens_around_an_update(driver: Driver, page: RenderedPage, in_flight: str) -> None:
    """Update the weights under running requests: each token belongs to the weights that made it."""
    old = driver.fresh()
    old_version = driver.call("version")
    new = Reference(driver.path)
    new.perturb(11, scale=0.1)
    steps = driver.call("stats").steps
    length = 600 if driver.caches_features else 300  # vLLM is the faster one
    driver.submit(page, SamplingSpec(1.0, 1.0, length), tuple(range(4)))
    while driver.call("stats").steps < steps + 12:
        pass
    new_version = driver.sync(new, in_flight)
    crossed = [c for c in driver.gather(4) if len(c.versions) == 2]
    assert crossed, "no completion was running during the update"
    for completion in crossed:
        before, after = completion.versions
        assert (before.version, after.version) == (old_version, new_version)
        assert (before.start, after.start, after.end) == (0, before.end, len(completion.token_ids))
        assert completion.oldest_version == old_version
        under_old = old.logprobs(page, completion.token_ids, 1.0)
        under_new = new.logprobs(page, completion.token_ids, 1.0)
        cut = before.end
        np.testing.assert_allclose(completion.logprobs[:cut], under_old[:cut], atol=1e-4)
        gap = np.abs(completion.logprobs[cut + 1 :] - under_new[cut + 1 :])
        if in_flight == "recompute":
            assert gap.max() < 1e-4
        elif len(gap):
            assert gap.max() > 1e-3  # what the old weights left behind is still in use


def start_driver(
    engine: str,
    path: Path,
    lora: LoraConfig | None = None,
    dtype: str = "float32",
    quantization: str | None = None,
) -> Driver:
    """An engine in a Ray actor, whose checksums can be asked for.

    With `lora`, syncs bring adapters.
    """
    config = RolloutConfig(
        engine=engine,
        dtype=dtype,
        quantization=quantization,
        max_model_len=MAX_MODEL_LEN,
        max_num_seqs=32,
        kv_cache_gb=0.25,
    )
    spec = WorkerSpec(
        EncoderSpec(str(path)), config, False, "object_store", lora=lora, checksum=True
    )
    handle = actor_class(config, use_gpu=False).remote("engine-0", 0, spec)
    ray.get(handle.start.remote())
    return Driver(handle, path, engine == "vllm")


def page(seed: int, height: int = 150, width: int = 211) -> RenderedPage:
    """A page whose sides are no multiples of the patch: resizing must agree as well."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return RenderedPage(Page(f"page-{seed}::1", "page.pdf", 1), pixels)
