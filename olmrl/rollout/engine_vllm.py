"""vLLM as an `Engine`: in this process, driven by one thread.

    EncodedPage -> EngineCoreRequest per completion -> LLMEngine.step -> Completion

A page comes encoded, as the learner takes it too (same ids, same pixels on both sides); its first
completion pays for the prefill, its siblings find it in the prefix cache. Cached prefixes and
vision features have the policy version in their key, and an update preempts and recomputes running
requests, so nothing made by old weights survives it. `environment.engine_environment` is what the
process needs before this module is imported.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature
from vllm import RequestOutput, SamplingParams
from vllm.config import WeightTransferConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.inputs.engine import mm_input
from vllm.lora.request import LoRARequest
from vllm.multimodal.inputs import (
    MultiModalFieldConfig,
    MultiModalKwargsItems,
    PlaceholderRange,
)
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.llm_engine import LLMEngine

from olmrl.config.schema import LoraConfig, RolloutConfig
from olmrl.data.encode import Encoder
from olmrl.models.family import Family
from olmrl.models.files import model_config
from olmrl.models.pixels import normalise
from olmrl.models.weight_files import check_loadable
from olmrl.rollout.adapter import IncomingAdapter
from olmrl.rollout.engine import BASE_VERSION, Engine, InFlight
from olmrl.rollout.requests import Generated, GenerationFailure, OpenGroup
from olmrl.rollout.vllm_loader import LOAD_FORMAT
from olmrl.rollout.vllm_registry import inspect_here
from olmrl.rollout.vllm_worker import SEED
from olmrl.types import (
    Completion,
    EncodedPage,
    Float32Array,
    Int32Array,
    PolicyVersion,
    VersionSpan,
)
from olmrl.weight_sync.checksum import Checksums, renamed

_CPU_BLOCK = 32
"""KV block on CPU; vLLM's default of 128 would never share a prompt shorter than that."""
"""Sizes of vLLM's buffers for adapters (its `MaxLoRARanks`)."""
_EIGHT_BIT = "fp8_per_channel"
"""vLLM's online recipe that equals `w8a8_dynamic` of `olmrl.export`: a scale per output channel,
and per token of the activations. It rounds what its layerwise loading brings, first or later."""
_ADAPTER_ID = 1
"""The policy is the only adapter, and changes in place: running requests follow it as they follow
whole weights."""


@dataclass(frozen=True, slots=True)
class _Image:
    items: MultiModalKwargsItems
    place: PlaceholderRange
    """Where its placeholders are in the prompt."""
    key: str
    """Digest of its pixels: names it in vLLM's caches, whatever the page's id."""


@dataclass(frozen=True, slots=True)
class _Finished:
    group: OpenGroup
    index: int
    output: RequestOutput


class VllmEngine(Engine):
    """One vLLM engine.

    Args:
        encoder: The learner's encoder; names the model, its end token and its banned ids.
        config: Engine settings.
        backend: Weight-transfer backend: `olmrl_store`, or one of vLLM's own.
        seed: Engine seed; completions carry their own.
        trust_remote_code: Run code shipped with the checkpoint.
        prometheus: Publish the engine's own counters as Ray metrics.
        lora: Adapters that weight updates bring, beside base weights that never change; None:
            updates bring whole weights.
        checksum: `checksums` will be asked for after updates.
        ray_workers: Run the engine's ranks as Ray actors in the placement group of this process.

    Raises:
        ValueError: vLLM refuses the model or the settings.
    """

    def __init__(
        self,
        encoder: Encoder,
        config: RolloutConfig,
        *,
        backend: str = "olmrl_store",
        seed: int = 0,
        trust_remote_code: bool = False,
        prometheus: bool = False,
        lora: LoraConfig | None = None,
        checksum: bool = False,
        ray_workers: bool = False,
    ) -> None:
        super().__init__(encoder, config)
        arguments = engine_arguments(encoder, config, backend, seed, trust_remote_code, lora)
        self._adapter = IncomingAdapter(lora) if lora else None
        arguments["disable_log_stats"] = not prometheus
        if ray_workers:
            arguments["distributed_executor_backend"] = "ray"
        loggers: Any = None
        if prometheus:
            # Deferred: the gauges are Ray's, and the engine itself runs without Ray.
            from olmrl.rollout.gauges import EngineGauges  # noqa: PLC0415

            loggers = [EngineGauges]
        if current_platform.is_cpu() and config.dtype == "float32" and encoder.family.is_recurrent:
            # Deferred: of vLLM's newer layers, which other families do without.
            from olmrl.rollout import vllm_float32  # noqa: PLC0415

            if config.tensor_parallel_size > 1:
                raise ValueError(
                    "rollout.tensor_parallel_size: must be 1 for float32 engines of "
                    f"{encoder.family.title} on a CPU, got {config.tensor_parallel_size}"
                )
            vllm_float32.install()
        if current_platform.is_cpu():
            inspect_here(model_config(encoder.model_path).get("architectures") or ())
        # Its outputs are typed for every task vLLM serves; here they are always completions.
        self._llm: Any = LLMEngine.from_engine_args(EngineArgs(**arguments), stat_loggers=loggers)
        self._dtype: Any = self._llm.model_config.dtype
        self._llm.collective_rpc("olmrl_install_sampler", args=(list(encoder.banned_ids),))
        if checksum and config.quantization:
            self._llm.collective_rpc("olmrl_watch_arrivals")
        self._llm.set_weight_version(str(BASE_VERSION))
        self._running: dict[str, tuple[str, int]] = {}
        self._loop.start()

    def poll(self, timeout_s: float) -> list[Generated]:
        """See `Engine`; text is decoded here, outside the engine thread."""
        return [
            item if isinstance(item, GenerationFailure) else self._completion(item)
            for item in self._loop.poll(timeout_s)
        ]

    def _drop(self, group_ids: set[str]) -> None:
        rids = [rid for rid, (group_id, _) in self._running.items() if group_id in group_ids]
        self._llm.abort_request(rids)
        for rid in rids:
            del self._running[rid]

    def score(self, page: EncodedPage, token_ids: Int32Array, temperature: float) -> Float32Array:
        """See `Engine`; goes through vLLM's prefill, while other requests go on."""
        ids = [*page.prompt_ids.tolist(), *np.asarray(token_ids).tolist()]
        if len(ids) + 1 > self._config.max_model_len:
            raise ValueError(
                f"{page.page_id}: {len(ids)} tokens to score, "
                f"rollout.max_model_len is {self._config.max_model_len}"
            )
        image = self._image(page)

        def work() -> Float32Array:
            self._llm.collective_rpc("olmrl_score_temperature", args=(temperature,))
            parameters = SamplingParams(
                max_tokens=1,
                temperature=0.0,
                prompt_logprobs=0,
                output_kind=RequestOutputKind.FINAL_ONLY,
                detokenize=False,
            )
            self._add("score", image, ids, parameters)
            scored = None
            while scored is None:
                for output in self._llm.step():
                    if output.request_id == "score":
                        scored = output
                        continue
                    finished = self._finish(output)
                    if finished is not None:
                        self._loop.emit(finished)
            rows = scored.prompt_logprobs[len(page.prompt_ids) :]
            values = [row[t].logprob for row, t in zip(rows, token_ids, strict=True)]
            return np.asarray(values, dtype=np.float32)

        return self._loop.call(work)

    def init_weight_transfer(self, info: Mapping[str, Any]) -> None:
        """Join the transport (for NCCL: blocks until all ranks have joined).

        Raises:
            EngineBroken: an update was never finished.
        """

        def work() -> None:
            self._refuse_half_updated()
            self._llm.collective_rpc("shutdown_weight_transfer_engine")
            self._llm.collective_rpc("init_weight_transfer_engine", args=(dict(info),))

        self._loop.call(work)

    def _open_weights(self) -> None:
        if self._adapter is None:
            self._llm.collective_rpc("start_weight_update")
        else:
            self._adapter.begin()

    def update_weights(self, info: Mapping[str, Any]) -> None:
        """Take one bucket (or, over NCCL, the whole broadcast)."""

        def work() -> None:
            if self._adapter is None:
                self._llm.collective_rpc("update_weights", args=(dict(info),))
            else:
                self._refuse_beside_language(info["names"])
                self._adapter.take(info)

        self._loop.call(work)

    def _refuse_beside_language(self, names: Sequence[str]) -> None:
        """vLLM ignores adapters of other parts without a word."""
        family = self._encoder.family
        for name in names:
            if family.part_of(name) != "language":
                raise ValueError(
                    f"weight_sync.lora: the vllm engine takes adapters of the language model only, "
                    f"not {name}; change model.lora.target_modules, or set merged"
                )

    def _adopt_weights(self, version: PolicyVersion, in_flight: InFlight) -> None:
        if self._adapter is None:
            self._llm.collective_rpc("finish_weight_update")
        else:
            self._adapter.write()
            self._llm.add_lora(self._lora_request(load_inplace=True))
        if in_flight == "recompute":
            self._llm.reset_prefix_cache(reset_running_requests=True)
            self._llm.reset_encoder_cache()
        else:
            # Running requests hold their blocks; new ones cannot hit them, their key differs.
            self._llm.reset_prefix_cache()
        self._llm.set_weight_version(str(version))

    def checksums(self) -> list[Checksums]:
        """Checksums of what updates bring, as kernels hold it, by tensor-parallel rank.

        Of layers that vLLM rounds to 8 bits: of their weights as they arrived.
        """
        family = self._encoder.family

        def ask(method: str, *arguments: Any) -> list[Checksums]:
            ranks: list[Checksums] = self._llm.collective_rpc(method, args=arguments)
            return ranks

        def work() -> list[Checksums]:
            if self._adapter is not None:
                return ask("olmrl_adapter_checksums", _ADAPTER_ID)
            held = ask("olmrl_checksums", family.float32)
            if self._config.quantization is None:
                return held
            arrived = ask("olmrl_arrivals")
            return [renamed(a, family) | h for a, h in zip(arrived, held, strict=True)]

        return self._loop.call(work)

    def sleep(self) -> None:
        """Discard weights and KV cache (CUDA, `rollout.colocate`); unfinished work is recomputed.

        Raises:
            ValueError: the engine was not started for it.
        """
        if not self._config.colocate:
            raise ValueError("rollout.colocate: must be true for engines to sleep")

        def work() -> None:
            self._loop.paused = True
            self._llm.reset_prefix_cache(reset_running_requests=True)
            self._llm.sleep(level=2, mode="keep")

        self._loop.call(work)

    def wake(self) -> None:
        """Take memory back; a weight update must follow."""
        self._loop.call(lambda: self._llm.wake_up())

    def _num_running(self) -> int:
        return len(self._running)

    def close(self) -> None:
        """Stop the thread and vLLM."""
        super().close()
        self._llm.engine_core.shutdown()
        if self._adapter is not None:
            self._adapter.close()

    def _step(self) -> list[_Finished | GenerationFailure]:
        while self._groups.waiting and len(self._running) < self._config.max_num_seqs:
            self._start(*self._groups.waiting.popleft())
        finished = (self._finish(output) for output in self._llm.step())
        return [item for item in finished if item is not None]

    def _start(self, group_id: str, index: int) -> None:
        group = self._groups.get(group_id)
        if group is None:
            return
        rid = f"{group_id}#{index}"
        self._running[rid] = (group_id, index)
        parameters = self._parameters(group, index)
        ids = group.request.page.prompt_ids.tolist()
        self._add(rid, group.image, ids, parameters)

    def _add(self, rid: str, image: _Image, ids: list[int], parameters: SamplingParams) -> None:
        loaded = self._adapter is not None and bool(self._adapter.matrices)
        self._llm.add_request(
            rid,
            self._input(image, ids),
            parameters,
            lora_request=self._lora_request() if loaded else None,
        )

    def _lora_request(self, *, load_inplace: bool = False) -> LoRARequest:
        assert self._adapter is not None
        return LoRARequest("policy", _ADAPTER_ID, self._adapter.path, load_inplace=load_inplace)

    def _parameters(self, group: OpenGroup, index: int) -> SamplingParams:
        """vLLM's parameters of one completion.

        Raises:
            ValueError: vLLM refuses them (a temperature above 2, say).
        """
        sampling = group.request.sampling
        return SamplingParams(
            temperature=0.0 if sampling.greedy else sampling.temperature,
            top_p=1.0 if sampling.greedy else sampling.top_p,
            extra_args={SEED: group.request.seeds[index]},
            max_tokens=group.max_tokens,
            logprobs=0,
            # Only the ids named here end a completion, whatever the checkpoint's own files say.
            ignore_eos=True,
            stop_token_ids=[self._encoder.end_id],
            output_kind=RequestOutputKind.FINAL_ONLY,
            detokenize=False,
        )

    def _image(self, page: EncodedPage) -> _Image:
        """The page's image as vLLM takes it, shared by all its completions."""
        grid_thw, vision = page.image_grid_thw, self._encoder.vision
        (start,) = vision.check(page.prompt_ids, grid_thw, len(page.patches)).tolist()
        # Copies: arrays from an object store are read-only, which tensors cannot be.
        grid, patches = torch.tensor(grid_thw), torch.tensor(page.patches)
        # vLLM's own kernel would fold the normalisation into one product, which rounds differently.
        pixels = normalise(patches, self._encoder.normalisation, self._dtype)
        items = MultiModalKwargsItems.from_hf_inputs(
            BatchFeature({"pixel_values": pixels, "image_grid_thw": grid}),
            {
                "pixel_values": MultiModalFieldConfig.flat_from_sizes("image", grid.prod(-1)),
                "image_grid_thw": MultiModalFieldConfig.batched("image", keep_on_cpu=True),
            },
        )
        place = PlaceholderRange(offset=start, length=int(vision.count(grid_thw)[0]))
        return _Image(items, place, image_key(page))

    def _input(self, image: _Image, ids: list[int]) -> Any:
        """vLLM's processed input: caches are keyed by page and policy version."""
        return mm_input(
            prompt_token_ids=ids,
            mm_kwargs=image.items,
            mm_hashes={"image": [f"{image.key}@{self._version}"]},
            mm_placeholders={"image": [image.place]},
            cache_salt=str(self._version),
        )

    def _finish(self, output: RequestOutput) -> _Finished | None:
        running = self._running.pop(output.request_id, None)
        group = self._groups.close_completion(*running) if running else None
        if running is None or group is None:
            return None
        self._generated += len(output.outputs[0].token_ids)
        self._prompted += len(group.request.page.prompt_ids)
        self._cached += output.num_cached_tokens or 0
        return _Finished(group, running[1], output)

    def _completion(self, finished: _Finished) -> Completion:
        output: Any = finished.output.outputs[0]
        ids = list(output.token_ids)
        return Completion(
            group_id=finished.group.request.group_id,
            index=finished.index,
            token_ids=np.asarray(ids, dtype=np.int32),
            logprobs=np.asarray(
                [row[t].logprob for row, t in zip(output.logprobs, ids, strict=True)],
                dtype=np.float32,
            ),
            versions=tuple(
                VersionSpan(PolicyVersion.parse(span.version), span.start, span.end)
                for span in output.weight_versions
            ),
            finish_reason=str(output.finish_reason),
            text=self._encoder.decode(ids),
            prompt_token_ids=finished.group.request.page.prompt_ids.astype(np.int32),
            cached_tokens=finished.output.num_cached_tokens or 0,
        )


def engine_arguments(
    encoder: Encoder,
    config: RolloutConfig,
    backend: str,
    seed: int,
    trust_remote_code: bool,
    lora: LoraConfig | None = None,
) -> dict[str, Any]:
    """vLLM `EngineArgs` for a configuration, on the platform vLLM was built for."""
    arguments: dict[str, Any] = {
        "model": encoder.model_path,
        "dtype": config.dtype,
        "seed": seed,
        "trust_remote_code": trust_remote_code,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "enforce_eager": config.enforce_eager,
        "tensor_parallel_size": config.tensor_parallel_size,
        "limit_mm_per_prompt": {"image": _largest_image(encoder, config), "video": 0},
        # Pixels come normalised, so vLLM neither normalises nor caches processed images.
        "mm_device_do_normalize": False,
        "mm_processor_cache_gb": 0,
        "enable_prefix_caching": True,
        "enable_chunked_prefill": True,
        "max_num_batched_tokens": config.max_batched_tokens,
        "use_tqdm_on_load": False,
        # Tokens must be counted under the weights that made them: no step may be under way at an
        # update.
        "async_scheduling": False,
        "generation_config": "vllm",
        "worker_extension_cls": "olmrl.rollout.vllm_worker.WorkerExtension",
        "weight_transfer_config": WeightTransferConfig(backend=backend),
    }
    if os.path.isdir(encoder.model_path) and check_loadable(encoder.model_path):
        arguments["load_format"] = LOAD_FORMAT
    if config.quantization is not None:
        arguments |= {
            "quantization": _EIGHT_BIT,
            "quantization_config": {"ignore": _unquantised(encoder.family)},
        }
    if lora is not None:
        arguments |= {
            "enable_lora": True,
            "max_loras": 1,
            "max_lora_rank": lora.engine_rank,
            "lora_target_modules": list(lora.target_modules),
        }
    if config.kv_cache_gb is not None:
        arguments["kv_cache_memory_bytes"] = int(config.kv_cache_gb * 2**30)
    if current_platform.is_cpu():
        arguments |= {"enforce_eager": True, "block_size": _CPU_BLOCK}
    else:
        arguments |= {
            "gpu_memory_utilization": config.gpu_memory_utilization,
            "enable_sleep_mode": config.colocate,
        }
        if config.tensor_parallel_size > 1:
            arguments["distributed_executor_backend"] = "mp"
    return arguments


def _unquantised(family: Family) -> list[str]:
    """The family's modules that keep their dtype, as vLLM's online quantisation names them.

    The names of an export are those of a checkpoint; vLLM's own have a prefix.
    """
    return [
        name if name.startswith("re:") else rf"re:(.*\.)?{re.escape(name)}$"
        for name in family.unquantised
    ]


def _largest_image(encoder: Encoder, config: RolloutConfig) -> dict[str, int]:
    """The image for which vLLM keeps memory: as many tokens as a step may encode.

    It would take the processor's own limit, which is 16,384 tokens in published models.
    """
    settings = encoder.family.image_settings
    tokens = max(config.max_model_len, config.max_batched_tokens)
    side = math.isqrt(tokens) * settings.patch_size * settings.merge_size
    return {"count": 1, "width": side, "height": side}


def image_key(page: EncodedPage) -> str:
    """Digest of what the model sees of a page, so that caches cannot confuse two pages."""
    digest = hashlib.blake2b(page.patches.tobytes(), digest_size=16)
    digest.update(page.image_grid_thw.tobytes())
    return digest.hexdigest()
