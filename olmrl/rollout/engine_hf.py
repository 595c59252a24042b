"""transformers as an `Engine`: for Macs, debugging and bit-reproducible runs.

One group is decoded at a time, all its G completions in lockstep over one prefill. The batch is
always the whole group with completion i in row i, finished or unwanted rows included, and draws go
by seed and position (`sampling`): so tokens are a function of weights, page and seeds alone, not of
what else the engine does. Shape letters: G group, P prompt, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from olmrl.config.schema import LoraConfig, RolloutConfig
from olmrl.data.encode import Encoder
from olmrl.models.adapters import merged
from olmrl.models.loading import load_network
from olmrl.models.pixels import normalise
from olmrl.rollout.adapter import IncomingAdapter
from olmrl.rollout.engine import Engine, InFlight
from olmrl.rollout.requests import Generated, OpenGroup
from olmrl.rollout.sampling import draw, uniforms
from olmrl.types import (
    Completion,
    EncodedPage,
    Float32Array,
    Int32Array,
    PolicyVersion,
    VersionSpan,
)
from olmrl.weight_sync.checksum import Checksums, checksums
from olmrl.weight_sync.publication import unpack


@dataclass(slots=True)
class _Decoding:
    """The group being decoded, one token column at a time."""

    group: OpenGroup
    cache: Any
    """Key/value cache of G rows."""
    logits_GV: torch.Tensor
    """Of the next token."""
    next_position: int
    tokens: list[torch.Tensor] = field(default_factory=list)
    """[G] ids per step."""
    logprobs: list[torch.Tensor] = field(default_factory=list)
    """[G] per step."""
    versions: list[PolicyVersion] = field(default_factory=list)
    """Weights that made each step."""
    running: list[bool] = field(default_factory=list)
    """Rows that have not ended."""


class HfEngine(Engine):
    """One transformers model that generates.

    Args:
        encoder: The learner's encoder; names the model, its end token and its banned ids.
        config: Engine settings; GPU-only ones are ignored.
        device: Torch device; None takes CUDA, then Apple's MPS, then the CPU.
        trust_remote_code: Run code shipped with the checkpoint.
        lora: Adapters that weight updates bring, which are merged here; None: updates bring whole
            weights.
    """

    def __init__(
        self,
        encoder: Encoder,
        config: RolloutConfig,
        *,
        device: str | None = None,
        trust_remote_code: bool = False,
        lora: LoraConfig | None = None,
    ) -> None:
        super().__init__(encoder, config)
        self._adapter = IncomingAdapter(lora) if lora else None
        self._unadapted: dict[str, torch.Tensor] = {}
        """Copies of the base model's weights that adapters change, by name."""
        self._device = torch.device(device or _best_device())
        model = load_network(
            encoder.model_path,
            "model.path",
            dtype=getattr(torch, config.dtype),
            trust_remote_code=trust_remote_code,
        )
        self._model = model.to(self._device).eval().requires_grad_(False)
        self._banned = torch.tensor(encoder.banned_ids, dtype=torch.int64, device=self._device)
        self._decoding: _Decoding | None = None
        self._loop.start()

    def _image(self, page: EncodedPage) -> None:
        self._encoder.vision.check(page.prompt_ids, page.image_grid_thw, len(page.patches))

    def poll(self, timeout_s: float) -> list[Generated]:
        """See `Engine`."""
        return self._loop.poll(timeout_s)

    def _drop(self, group_ids: set[str]) -> None:
        if self._decoding is not None and not self._alive(self._decoding):
            self._decoding = None

    def score(self, page: EncodedPage, token_ids: Int32Array, temperature: float) -> Float32Array:
        """See `Engine`."""

        def work() -> Float32Array:
            response = torch.tensor(np.asarray(token_ids), dtype=torch.int64, device=self._device)
            cache, logits, position = self._prefill(page, 1)
            rest = self._extend(cache, response[None, :-1], position) if len(response) > 1 else None
            every = logits[:, None] if rest is None else torch.cat([logits[:, None], rest], dim=1)
            scores = self._logprobs(every[0], temperature)
            return scores.gather(-1, response[:, None])[:, 0].float().cpu().numpy()

        return self._loop.call(work)

    def init_weight_transfer(self, info: Mapping[str, Any]) -> None:
        """Need no rendezvous: buckets describe themselves."""

    def _open_weights(self) -> None:
        if self._adapter is not None:
            self._adapter.begin()

    def update_weights(self, info: Mapping[str, Any]) -> None:
        """Copy one bucket into the model.

        Raises:
            ValueError: a name or shape that the model does not have.
        """

        def work() -> None:
            if self._adapter is not None:
                self._adapter.take(info)
                return
            state = self._model.state_dict()
            for name, tensor in unpack(dict(info)):
                _fitting(state, name, tensor.shape).copy_(tensor)

        self._loop.call(work)

    def _merge(self, adapter: IncomingAdapter) -> None:
        state = self._model.state_dict()
        for name, (down, up) in adapter.pairs().items():
            weight = _fitting(state, name, (len(up), down.shape[1]))
            if name not in self._unadapted:
                self._unadapted[name] = weight.clone()
            base = self._unadapted[name]
            weight.copy_(merged(base, down.to(base.device), up.to(base.device), 1.0))

    def _adopt_weights(self, version: PolicyVersion, in_flight: InFlight) -> None:
        if self._adapter is not None:
            self._merge(self._adapter)
        if in_flight == "recompute" and self._decoding is not None:
            self._recompute(self._decoding)

    def checksums(self) -> list[Checksums]:
        """Checksums of the model's parameters, or of the adapter that is merged into them."""
        family = self._encoder.family
        if self._adapter is not None:
            return [self._adapter.checksums(family)]
        return self._loop.call(lambda: [checksums(self._model.state_dict().items(), family)])

    def sleep(self) -> None:
        """Give memory to the learner: the model moves to the host."""

        def work() -> None:
            self._loop.paused = True
            self._decoding_to_waiting()
            self._model.to("cpu")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # or what was moved away stays reserved

        self._loop.call(work)

    def wake(self) -> None:
        """Move the model back to the device."""
        self._loop.call(lambda: self._model.to(self._device))

    def _num_running(self) -> int:
        decoding = self._decoding
        return sum(decoding.running) if decoding else 0

    def _alive(self, decoding: _Decoding) -> bool:
        return self._groups.get(decoding.group.request.group_id) is decoding.group

    def _decoding_to_waiting(self) -> None:
        """Put the current group back into the queue; its cache is dropped."""
        if self._decoding is not None:
            group = self._decoding.group
            group_id = group.request.group_id
            self._groups.waiting.extendleft((group_id, index) for index in sorted(group.open))
            self._decoding = None

    def _step(self) -> list[Generated]:
        if self._decoding is None:
            self._decoding = self._begin()
        decoding = self._decoding
        finished = self._decode(decoding)
        if not any(decoding.running) or not self._alive(decoding):
            self._decoding = None
        return finished

    @torch.inference_mode()
    def _begin(self) -> _Decoding:
        """Take the oldest group and prefill it."""
        group_id, _ = self._groups.waiting.popleft()
        while self._groups.waiting and self._groups.waiting[0][0] == group_id:
            self._groups.waiting.popleft()
        group = self._groups.get(group_id)
        assert group is not None, "waiting holds open groups only"
        seeds = group.request.seeds
        cache, logits, position = self._prefill(group.request.page, len(seeds))
        return _Decoding(
            group,
            cache,
            logits,
            position,
            running=[True] * len(seeds),
        )

    @torch.inference_mode()
    def _decode(self, decoding: _Decoding) -> list[Generated]:
        """Sample one column, hand out rows that ended, and compute the next logits."""
        sampling = decoding.group.request.sampling
        temperature = 1.0 if sampling.greedy else sampling.temperature
        logprobs_GV = self._logprobs(decoding.logits_GV, temperature)
        if sampling.greedy:
            tokens = logprobs_GV.argmax(dim=-1)
        else:
            tokens = self._draw(decoding, logprobs_GV)
        decoding.tokens.append(tokens)
        decoding.logprobs.append(logprobs_GV.gather(-1, tokens[:, None])[:, 0])
        decoding.versions.append(self._version)
        finished = self._collect(decoding)
        if any(decoding.running) and self._alive(decoding):
            logits = self._extend(decoding.cache, tokens[:, None], decoding.next_position)
            decoding.logits_GV = logits[:, -1]
            decoding.next_position += 1
        return finished

    def _draw(self, decoding: _Decoding, logprobs_GV: torch.Tensor) -> torch.Tensor:
        request = decoding.group.request
        numbers = uniforms(request.seeds, [len(decoding.tokens)] * len(request.seeds))
        top_p = request.sampling.top_p
        nucleus = None if top_p == 1.0 else torch.full((len(numbers),), top_p)
        # Apple's GPUs have no float64
        place = torch.device("cpu") if self._device.type == "mps" else self._device
        drawn = draw(
            logprobs_GV.to(place),
            torch.from_numpy(numbers).to(place),
            None if nucleus is None else nucleus.to(place),
        )
        return drawn.to(self._device)

    def _collect(self, decoding: _Decoding) -> list[Generated]:
        group, length = decoding.group, len(decoding.tokens)
        newest = decoding.tokens[-1].tolist()
        finished: list[Generated] = []
        for index, token in enumerate(newest):
            ended = token == self._encoder.end_id
            if not decoding.running[index] or not (ended or length >= group.max_tokens):
                continue
            decoding.running[index] = False
            if self._groups.close_completion(group.request.group_id, index) is None:
                continue
            first = len(group.open) == len(group.request.indices) - 1
            cached = 0 if first else len(group.request.page.prompt_ids)
            self._generated += length
            self._prompted += len(group.request.page.prompt_ids)
            self._cached += cached
            finished.append(
                self._completion(decoding, index, "stop" if ended else "length", cached)
            )
        return finished

    def _completion(self, decoding: _Decoding, index: int, reason: str, cached: int) -> Completion:
        ids = np.asarray([int(column[index]) for column in decoding.tokens], dtype=np.int32)
        return Completion(
            group_id=decoding.group.request.group_id,
            index=index,
            token_ids=ids,
            logprobs=np.asarray([float(c[index]) for c in decoding.logprobs], dtype=np.float32),
            versions=spans(decoding.versions),
            finish_reason=reason,
            text=self._encoder.decode(ids),
            prompt_token_ids=decoding.group.request.page.prompt_ids.astype(np.int32),
            cached_tokens=cached,
        )

    @torch.inference_mode()
    def _recompute(self, decoding: _Decoding) -> None:
        """Prefill prompt and tokens so far again, under the weights in use now."""
        rows = len(decoding.group.request.seeds)
        cache, logits, position = self._prefill(decoding.group.request.page, rows)
        if decoding.tokens:
            tokens = torch.stack(decoding.tokens, dim=1)
            logits = self._extend(cache, tokens, position)[:, -1]
        decoding.cache, decoding.logits_GV = cache, logits
        decoding.next_position = position + len(decoding.tokens)

    @torch.inference_mode()
    def _prefill(self, page: EncodedPage, rows: int) -> tuple[Any, torch.Tensor, int]:
        """Cache and next-token logits of a page, repeated over rows, and the next position."""
        vision = self._encoder.vision
        positions, following = vision.positions(page.prompt_ids, page.image_grid_thw)
        patches = self._on_device(page.patches)
        output = self._model(
            input_ids=self._on_device(page.prompt_ids)[None],
            position_ids=self._on_device(positions)[:, None],
            pixel_values=normalise(patches, self._encoder.normalisation, self._model.dtype),
            image_grid_thw=self._on_device(page.image_grid_thw),
            mm_token_type_ids=self._image_mask(page)[None],
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        # one row becomes many; recurrent states know no other way
        cache.reorder_cache(torch.zeros(rows, dtype=torch.int64, device=self._device))
        return cache, output.logits[:, -1].expand(rows, -1), following

    @torch.inference_mode()
    def _extend(self, cache: Any, tokens: torch.Tensor, position: int) -> torch.Tensor:
        """Logits [rows, n, V] after n more tokens per row; grows the cache."""
        rows, length = tokens.shape
        steps = torch.arange(position, position + length, device=self._device)
        output = self._model(
            input_ids=tokens,
            position_ids=steps.expand(3, rows, length),
            past_key_values=cache,
            use_cache=True,
        )
        logits: torch.Tensor = output.logits
        return logits

    def _logprobs(self, logits: torch.Tensor, temperature: float) -> torch.Tensor:
        """Tempered log-probs over the full vocabulary, banned ids masked."""
        scores = logits.float() / temperature
        return scores.index_fill(-1, self._banned, float("-inf")).log_softmax(dim=-1)

    def _image_mask(self, page: EncodedPage) -> torch.Tensor:
        mask = page.prompt_ids == self._encoder.vision.image_token_id
        return self._on_device(mask).to(torch.int64)

    def _on_device(self, array: Any) -> torch.Tensor:
        # A copy: arrays from an object store are read-only, which tensors cannot be.
        return torch.tensor(array, device=self._device)


def _fitting(state: Mapping[str, torch.Tensor], name: str, shape: Sequence[int]) -> torch.Tensor:
    """The model's own weight of this name and shape."""
    if name not in state or tuple(state[name].shape) != tuple(shape):
        have = list(state[name].shape) if name in state else "no such weight"
        raise ValueError(f"weight {name} {list(shape)}: the engine has {have}")
    return state[name]


def spans(versions: Sequence[PolicyVersion]) -> tuple[VersionSpan, ...]:
    """Runs of equal versions, one per token, as spans."""
    found: list[VersionSpan] = []
    for place, version in enumerate(versions):
        if found and found[-1].version == version:
            found[-1] = VersionSpan(version, found[-1].start, place + 1)
        else:
            found.append(VersionSpan(version, place, place + 1))
    return tuple(found)


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
