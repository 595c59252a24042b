"""A quantised model emulated in transformers: its ranges on pages, and what rounding costs.

Engines round activations inside their kernels; here hooks on the linear layers and an attention
function of our own do the same in full precision, so that a recipe can be judged on any machine.
For calibration the same hooks only record ranges.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from olmrl.export.recipes import BLOCK, Recipe
from olmrl.export.rounding import (
    FP8,
    Codes,
    decode,
    static_scale,
    through_fp8_rows,
    through_int8_rows,
    through_scale,
)
from olmrl.export.samples import PageTokens
from olmrl.export.weights import ModelFolder
from olmrl.models.files import image_settings, model_family
from olmrl.models.loading import load_network
from olmrl.models.pixels import normalise
from olmrl.types import Float32Array

_ATTENTION = "olmrl_kv"
_KeyValue = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(slots=True)
class Ranges:
    """Largest magnitudes seen on calibration pages."""

    inputs: dict[str, float] = field(default_factory=dict)
    """Input of each target linear layer, by weight name."""
    keys: dict[int, float] = field(default_factory=dict)
    """Keys (after rotary embedding) by layer."""
    values: dict[int, float] = field(default_factory=dict)
    """Values by layer."""


@dataclass(frozen=True, slots=True)
class TokenScores:
    """What a model makes of the tokens of one transcription."""

    logprobs: Float32Array
    """[R] log-probability of each given token."""
    is_top: np.ndarray[Any, np.dtype[np.bool_]]
    """[R] whether the given token is the most probable one."""
    top_ids: np.ndarray[Any, np.dtype[np.int64]]
    """[R] the most probable token at each place."""


class ProbedModel:
    """A transformers model whose linear inputs, keys and values can be observed and changed."""

    def __init__(self, path: str, dtype: torch.dtype) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.family = model_family(path)
        self.model: Any = load_network(path, "model", dtype=dtype)
        nn.Module.to(self.model, self.device)
        self.model.eval().requires_grad_(False)
        self._normalisation = image_settings(path).normalisation
        self._on_key_value: _KeyValue = lambda layer, key, value: (key, value)
        self._hooks: list[Any] = []
        AttentionInterface.register(_ATTENTION, self._attention)
        AttentionMaskInterface.register(_ATTENTION, sdpa_mask)
        self.family.language(self.model).config._attn_implementation = _ATTENTION

    def score(self, sample: PageTokens, banned_ids: Sequence[int] = ()) -> TokenScores:
        """Teacher-force a transcription, as if banned ids could not be sampled."""
        prompt, response = sample.prompt, np.asarray(sample.response_ids, np.int64)
        ids = torch.from_numpy(np.concatenate([prompt.prompt_ids, response]))[None].to(self.device)
        image_id = self.model.config.image_token_id
        with torch.inference_mode():
            logits = self.model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == image_id).long(),
                pixel_values=normalise(
                    torch.from_numpy(prompt.patches).to(self.device),
                    self._normalisation,
                    torch.float32,
                ),
                image_grid_thw=torch.from_numpy(prompt.image_grid_thw).to(self.device),
                logits_to_keep=len(response) + 1,
            ).logits[0, :-1]
        banned = torch.tensor(list(banned_ids), dtype=torch.int64, device=self.device)
        table = logits.float().index_fill(-1, banned, -torch.inf).log_softmax(-1).cpu()
        given = table.gather(-1, torch.from_numpy(response)[:, None])[:, 0].numpy()
        top = table.argmax(-1).numpy()
        return TokenScores(given, top == response, top)

    def observe(self, samples: Sequence[PageTokens]) -> Ranges:
        """Run samples and record the largest magnitudes."""
        ranges = Ranges()

        def look(name: str, _: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            _raise_to(ranges.inputs, name, arguments[0])

        def look_at_cache(layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
            _raise_to(ranges.keys, layer, key)
            _raise_to(ranges.values, layer, value)
            return key, value

        for name, module in self._targets():
            self._hooks.append(module.register_forward_pre_hook(functools.partial(look, name)))
        self._on_key_value = look_at_cache
        for sample in samples:
            self.score(sample)
        self._detach()
        return ranges

    def become(self, quantised: ModelFolder, recipe: Recipe, ranges: Ranges | None) -> None:
        """Take a quantised folder's weights, and round activations as its recipe says."""
        entries = {self.family.module_name(name): name for name in quantised.entries}
        for name, module in self._targets():
            stored = entries[name]
            codes = Codes(quantised.read(stored), quantised.read(f"{stored}_scale"))
            module.weight.copy_(decode(codes))
            largest = ranges.inputs[name] if ranges else 0.0
            hook = functools.partial(_round_input, _rounder(recipe, largest))
            self._hooks.append(module.register_forward_pre_hook(hook))
        if recipe.kv_cache and ranges:
            self._on_key_value = functools.partial(_round_cache, ranges)

    def _targets(self) -> list[tuple[str, nn.Linear]]:
        return [
            (f"{name}.weight", module)
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Linear) and self.family.is_quantisable(f"{name}.weight")
        ]

    def _detach(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._on_key_value = lambda layer, key, value: (key, value)

    def _attention(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        key, value = self._on_key_value(module.layer_idx, key, value)
        return sdpa_attention_forward(module, query, key, value, *args, **kwargs)


def _raise_to(table: dict[Any, float], name: Any, tensor: Tensor) -> None:
    table[name] = max(table.get(name, 0.0), tensor.abs().max().item())


def _rounder(recipe: Recipe, largest: float) -> Callable[[Tensor], Tensor]:
    if recipe.activations == "none":
        return lambda x: x
    if recipe.activations == "tensor":
        dtype = torch.int8 if recipe.number == "int" else FP8
        return lambda x: through_scale(x, static_scale(largest, dtype), dtype)
    if recipe.number == "int":
        return through_int8_rows
    return functools.partial(through_fp8_rows, group=BLOCK if recipe.blocks else None)


def _round_input(
    rounder: Callable[[Tensor], Tensor], _: nn.Module, arguments: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    return (rounder(arguments[0]), *arguments[1:])


def _round_cache(ranges: Ranges, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    return (
        through_scale(key, static_scale(ranges.keys[layer], FP8), FP8),
        through_scale(value, static_scale(ranges.values[layer], FP8), FP8),
    )
