"""The packed forward pass: a `PackedBatch` through vision tower and language model, once.

In a page-once group the page's patches and prompt are computed a single time for all completions
(docs/design.md#page-once-forward); SFT pages and dense rollouts take the same path.

Shape letters: T packed tokens, N predicted tokens, V patches, K bytes of a patch, F image features,
H hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from olmrl.learner.attention import Kernel, PackedPlan, VisionPlan, make_plan
from olmrl.learner.distillation import Distribution, reverse_kl
from olmrl.learner.logprobs import HeadSpec, TokenLogprobs, token_logprobs
from olmrl.models.family import ImageFeatures
from olmrl.models.mrope import VisionTokens
from olmrl.models.registry import FAMILIES, family_of
from olmrl.models.spans import find_spans
from olmrl.types import PackedBatch


@dataclass(frozen=True)
class VisionInputs:
    """Images of a batch, with everything the tower derives from their sizes alone."""

    patches_VK: Tensor
    """Bytes of one frame; the tower's patch embedding normalises them."""
    grid: Tensor
    """[I, 3] patches in time, height, width, on the CPU."""
    layout: dict[str, Any]
    """Keyword arguments of the tower: positions, window order, segments of attention."""


@dataclass(frozen=True)
class PolicyInputs:
    """A `PackedBatch` on the device, with its attention planned."""

    token_ids_T: Tensor
    position_ids: Tensor
    """[3, 1, T]"""
    plan: PackedPlan
    recurrence: Any
    """What recurrent layers need of the row's segments; None where all layers attend."""
    predict_at_N: Tensor
    targets_N: Tensor
    image_at_F: Tensor
    """Positions of the image placeholders in the row."""
    vision: VisionInputs
    """Of a blank image where the row has none, so that ranks stay in step."""


class PolicyOutput(NamedTuple):
    """What the loss needs."""

    logprobs_N: Tensor
    """float32."""
    entropy_N: Tensor
    """float32."""
    features: ImageFeatures
    """Of the row's images, to be reused where the tower is frozen."""
    teacher_kl_N: Tensor | None = None
    """float32; KL to the teacher, where one was given."""


def prepare_inputs(
    batch: PackedBatch, config: Any, kernel: Kernel, device: torch.device | str
) -> PolicyInputs:
    """Check a batch, move it to the device and plan its attention.

    Args:
        batch: what to run.
        config: the model's configuration.
        kernel: attention kernel.
        device: where the model is.

    Raises:
        ValueError: image placeholders and image features differ in number, or segments are
            malformed; training on such a batch would silently shift the page under the text.
    """
    merge = config.vision_config.spatial_merge_size
    image_at = np.flatnonzero(batch.token_ids == config.image_token_id)
    try:
        VisionTokens(config.image_token_id, merge).check(
            batch.token_ids, batch.image_grid_thw, len(batch.patches)
        )
    except ValueError as error:
        pages = ", ".join(batch.page_ids) or "unnamed pages"
        raise ValueError(f"packed batch of {pages}: {error}") from error
    has_images = len(image_at) > 0
    grid = batch.image_grid_thw if has_images else np.asarray([[1, merge, merge]])
    spans = find_spans(batch.segment_ids, batch.prefix_ids)
    tower = _Tower(config.model_type, str(vars(config.vision_config)), config.vision_config)
    return PolicyInputs(
        token_ids_T=to_device(batch.token_ids, device),
        position_ids=to_device(batch.position_ids, device).unsqueeze(1),
        plan=make_plan(spans, kernel, device),
        recurrence=family_of(config).recurrence(config, spans, device),
        predict_at_N=to_device(batch.predict_at, device),
        targets_N=to_device(batch.targets, device),
        image_at_F=to_device(image_at, device),
        vision=VisionInputs(
            patches_VK=to_device(batch.patches if has_images else _blank_patches(config), device),
            grid=torch.from_numpy(np.ascontiguousarray(grid)),
            layout=_vision_layout(tower, tuple(map(tuple, grid.tolist())), str(device)),
        ),
    )


def _blank_patches(config: Any) -> np.ndarray:
    """The patches of one image feature."""
    vision = config.vision_config
    width = vision.in_channels * vision.patch_size**2
    return np.zeros((vision.spatial_merge_size**2, width), np.uint8)


def to_device(array: np.ndarray, device: torch.device | str) -> Tensor:
    """An array as a tensor on a device."""
    # arrays from an object store are read-only, which tensors cannot be
    array = array if array.flags.writeable else array.copy()
    return torch.from_numpy(array).to(device)


@dataclass(frozen=True)
class _Tower:
    """A model's tower as the key of cached layouts."""

    model_type: str
    settings: str
    config: Any = field(compare=False)


@lru_cache(maxsize=256)
def _vision_layout(tower: _Tower, grid: tuple[tuple[int, ...], ...], device: str) -> dict[str, Any]:
    """What the tower derives from image sizes; pages of a data set share a few sizes."""
    arguments, segments = FAMILIES[tower.model_type].vision_layout(tower.config, grid)
    plan = VisionPlan(segments, device)
    on_device = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in arguments.items()}
    return {**on_device, **plan.cumulative, "packed": plan}


def hidden_states(
    model: Any, inputs: PolicyInputs, features: ImageFeatures | None = None
) -> tuple[Tensor, ImageFeatures]:
    """Final hidden states [T, H] of a packed row, and the features of its images.

    Args:
        model: a model of transformers with packed attention.
        inputs: the row.
        features: of an earlier pass over the same batch; None runs the tower.
    """
    family = family_of(model.config)
    language = family.language(model)
    if features is None:
        vision = inputs.vision
        features = family.encode_images(
            family.tower(model), vision.patches_VK, vision.grid, vision.layout
        )
    # a norm's weight has the compute dtype even where the embedding is kept in float32
    work = language.norm.weight.dtype
    embeds_TH = language.embed_tokens(inputs.token_ids_T).to(work)
    features = ImageFeatures(
        features.merged_FH.to(work), tuple(side.to(work) for side in features.side)
    )
    # none of a blank image's features: the tower still gets gradients, and they are zero
    used = features.first(len(inputs.image_at_F))
    embeds_TH = embeds_TH.index_copy(0, inputs.image_at_F, used.merged_FH)
    out = language(
        inputs_embeds=embeds_TH.unsqueeze(0),
        position_ids=inputs.position_ids,
        use_cache=False,
        packed=inputs.plan,
        recurrence=inputs.recurrence,
        **family.language_arguments(used, inputs.image_at_F),
    )
    return out.last_hidden_state[0], features


class LogprobHead(nn.Linear):
    """The output head, which can go from hidden states straight to log-probabilities.

    It takes over the weight of the head it replaces, with its name and its tie to the embedding.
    """

    def __init__(self, lm_head: nn.Linear, spec: HeadSpec) -> None:
        super().__init__(lm_head.in_features, lm_head.out_features, bias=False, device="meta")
        self.weight = lm_head.weight
        self.spec = spec

    def forward(  # type: ignore[override]
        self,
        hidden: Tensor,
        targets_N: Tensor | None = None,
        teacher: Distribution | None = None,
    ) -> Tensor | tuple[TokenLogprobs, Tensor | None]:
        """The logits of all tokens, or with targets [N] their log-probabilities (see
        `token_logprobs`) and the KL to the teacher, if there is one (see `reverse_kl`)."""
        if targets_N is None:
            return super().forward(hidden)
        found = token_logprobs(hidden, self.weight, targets_N, self.spec)
        if teacher is None:
            return found, None
        return found, reverse_kl(hidden, self.weight, teacher, self.spec)


class Policy(nn.Module):
    """The model with its log-probability head: what strategies shard and call.

    Everything that needs weights happens in one forward call, around which strategies gather them.
    """

    def __init__(self, model: Any, kernel: Kernel, spec: HeadSpec) -> None:
        super().__init__()
        self.model = model
        self.kernel: Kernel = kernel
        model.lm_head = LogprobHead(model.lm_head, spec)

    def forward(
        self,
        inputs: PolicyInputs,
        features: ImageFeatures | None = None,
        teacher: Distribution | None = None,
    ) -> PolicyOutput:
        """Log-probabilities and entropies of the batch's targets."""
        hidden_TH, features = hidden_states(self.model, inputs, features)
        hidden_NH = hidden_TH.index_select(0, inputs.predict_at_N)
        out, kl_N = self.model.lm_head(hidden_NH, inputs.targets_N, teacher)
        return PolicyOutput(out.logprobs_N, out.entropy_N, features, kl_N)


class HeadlessPolicy(nn.Module):
    """A model whose head is applied by someone else: a teacher that judges the whole vocabulary."""

    def __init__(self, model: Any, kernel: Kernel) -> None:
        super().__init__()
        self.model = model
        self.kernel: Kernel = kernel

    def forward(self, inputs: PolicyInputs) -> Tensor:
        """[N, H] final hidden states at the predicting positions."""
        hidden_TH, _ = hidden_states(self.model, inputs)
        return hidden_TH.index_select(0, inputs.predict_at_N)


def blank_batch(config: Any) -> PackedBatch:
    """The smallest batch with an image, of zero weight.

    A rank without work runs it so that all ranks make the same collective calls.
    """
    merge = config.vision_config.spatial_merge_size
    return PackedBatch(
        token_ids=np.asarray([config.image_token_id, 0], np.int64),
        position_ids=np.asarray([[0, 1]] * 3, np.int64),
        segment_ids=np.zeros(2, np.int32),
        prefix_ids=np.full(2, -1, np.int32),
        predict_at=np.zeros(1, np.int64),
        targets=np.zeros(1, np.int64),
        sequence_ids=np.zeros(1, np.int32),
        patches=_blank_patches(config),
        image_grid_thw=np.asarray([[1, merge, merge]], np.int64),
        weights=np.zeros(1, np.float32),
        advantages=np.zeros(1, np.float32),
        behaviour_logprobs=np.zeros(1, np.float32),
        old_logprobs=np.zeros(1, np.float32),
        reference_logprobs=np.zeros(1, np.float32),
        teacher_logprobs=np.zeros(1, np.float32),
    )


def count_weighted(batches: Sequence[PackedBatch]) -> tuple[float, float]:
    """Total target weight, and sequences that have any, over some batches."""
    tokens = sum(float(b.weights.sum(dtype=np.float64)) for b in batches)
    sequences = sum(len(np.unique(b.sequence_ids[b.weights > 0])) for b in batches)
    return tokens, float(sequences)
