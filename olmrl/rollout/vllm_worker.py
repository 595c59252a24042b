"""What olmrl adds inside vLLM's workers: the policy's log-prob definition, and checksums.

vLLM mixes `WorkerExtension` into its worker class by name, in whichever process the worker lives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from vllm.model_executor.layers.quantization.online.fp8 import OnlineLinearBase
from vllm.v1.sample.metadata import SamplingMetadata
from vllm.v1.sample.sampler import Sampler

from olmrl.models.adapters import matrix_name
from olmrl.rollout.sampling import draw, uniforms
from olmrl.rollout.vllm_loader import LOAD_FORMAT
from olmrl.weight_sync import vllm_backend
from olmrl.weight_sync.checksum import Checksums, add, tensor_hash
from olmrl.weight_sync.publication import NamedTensor

assert vllm_backend.BACKEND and LOAD_FORMAT  # imported for the registrations they do

SEED = "olmrl_seed"
"""Key of a completion's seed among the extra arguments of its request; vLLM's own `seed` would make
it keep a generator per request and draw row by row."""


class PolicySampler(Sampler):
    """Draws tokens by `sampling`; reports log-probs by docs/design.md#log-probabilities.

    Banned ids are masked before anything else. Log-probs are those of the tempered distribution
    over the full vocabulary, not renormalised to the nucleus, which vLLM's own `processed_logprobs`
    would do for top_p < 1. Greedy requests report them at temperature 1.

    Args:
        banned_ids: [b] token ids on the logits' device.
        runner: vLLM's model runner, which knows the request of each row.
    """

    def __init__(self, banned_ids: torch.Tensor, runner: Any) -> None:
        super().__init__(logprobs_mode="processed_logprobs")
        self._banned_ids = banned_ids
        self._runner = runner
        self.score_temperature = 1.0

    def sample(
        self,
        logits: torch.Tensor,
        sampling_metadata: SamplingMetadata,
        logprobs_mode_override: Any = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Sample one id per row of [R, V] logits; log-probs of all ids where asked for."""
        logits.index_fill_(-1, self._banned_ids, float("-inf"))
        temperature = sampling_metadata.temperature
        if sampling_metadata.all_greedy or temperature is None:
            wanted = sampling_metadata.max_num_logprobs is not None
            logprobs = logits.log_softmax(dim=-1, dtype=torch.float32) if wanted else None
            return logits.argmax(dim=-1), logprobs
        # vLLM codes greedy rows of a mixed batch as temperature 0
        greedy = temperature < 1e-5
        logits.div_(torch.where(greedy, 1.0, temperature).unsqueeze(-1))
        logprobs = logits.log_softmax(dim=-1, dtype=torch.float32)
        drawn = draw(logprobs, self._uniforms(len(logits)), sampling_metadata.top_p)
        if not sampling_metadata.all_random:
            drawn = torch.where(greedy, logprobs.argmax(dim=-1), drawn)
        return drawn, logprobs

    def _uniforms(self, rows: int) -> torch.Tensor:
        """[R] by seed and position of the completion that each row belongs to."""
        requests = [self._runner.requests[name] for name in self._runner.input_batch.req_ids]
        assert len(requests) == rows, "one row of logits per request"
        seeds = [(request.sampling_params.extra_args or {}).get(SEED, 0) for request in requests]
        positions = [len(request.output_token_ids) for request in requests]
        return torch.from_numpy(uniforms(seeds, positions)).to(self._banned_ids.device)

    def compute_logprobs(self, logits: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Log-probs of prompt tokens: only `VllmEngine.score` asks for them."""
        scores = logits.float() / self.score_temperature
        scores.index_fill_(-1, self._banned_ids, float("-inf"))
        return scores.log_softmax(dim=-1)


class WorkerExtension:
    """Methods that `VllmEngine` calls in every vLLM worker through `collective_rpc`."""

    model_runner: Any
    device: torch.device
    _arrived: Checksums

    def olmrl_install_sampler(self, banned_ids: list[int]) -> None:
        """Replace the sampler by `PolicySampler`."""
        if type(self.model_runner.sampler) is not Sampler:
            raise RuntimeError(
                f"vLLM's sampler is {type(self.model_runner.sampler)}, expected {Sampler}: "
                "this model runner is not supported, set VLLM_USE_V2_MODEL_RUNNER=0"
            )
        ids = torch.tensor(banned_ids, dtype=torch.int64, device=self.device)
        self.model_runner.sampler = PolicySampler(ids, self.model_runner)

    def olmrl_score_temperature(self, temperature: float) -> None:
        """Set the temperature of the next `score`."""
        self.model_runner.sampler.score_temperature = temperature

    def olmrl_checksums(self, float32: str) -> Checksums:
        """Hash of every parameter this worker holds, packed ones included.

        Args:
            float32: pattern of the names of parameters that the model keeps in float32.
        """
        found: Checksums = {}
        for module_name, module in self.model_runner.model.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                weights = parameter.data
                if isinstance(getattr(module, "quant_method", None), OnlineLinearBase):
                    continue  # rounded; `olmrl_arrivals` has what was loaded
                if weights.numel() == 0 and name == "weight":
                    weights = _unpacked(module)
                full = f"{module_name}.{name}"
                if weights.is_floating_point() and not re.fullmatch(float32, full):
                    # CPU kernels widen biases; narrowing them again is exact.
                    weights = weights.to(self.model_runner.model_config.dtype)
                if weights.numel():
                    found[full] = (tensor_hash(weights), weights.numel())
        return found

    def olmrl_watch_arrivals(self) -> None:
        """From now on, hash weights on their way into the model."""
        model = self.model_runner.get_model()
        load = model.load_weights
        self._arrived = {}

        def watched(weights: Iterable[NamedTensor]) -> Any:
            def passing() -> Iterator[NamedTensor]:
                for name, tensor in weights:
                    self._arrived[name] = (tensor_hash(tensor), tensor.numel())
                    yield name, tensor

            return load(passing())

        model.load_weights = watched

    def olmrl_arrivals(self) -> Checksums:
        """Hash of every weight that has arrived, under the name that it came with."""
        return self._arrived

    def olmrl_adapter_checksums(self, adapter_id: int) -> Checksums:
        """Hash of the matrices of an adapter, as the kernels of this worker hold them."""
        found: Checksums = {}
        manager = self.model_runner.lora_manager._adapter_manager
        slot = manager.lora_index_to_id.index(adapter_id)
        adapter = manager.get_adapter(adapter_id)
        for name, module in manager.modules.items():
            if (layer := adapter.get_lora(name)) is None:
                continue
            fused = isinstance(layer.lora_a, list)
            given = [piece is not None for piece in layer.lora_a] if fused else [True]
            for part, dim, stacked in (
                ("A", -2, module.lora_a_stacked),
                ("B", -1, module.lora_b_stacked),
            ):
                for piece, is_given in zip(stacked, given, strict=True):
                    if is_given:
                        add(
                            found,
                            matrix_name(name, part),
                            piece[slot, 0].narrow(dim, 0, layer.rank),
                        )
        return found


def _unpacked(layer: Any) -> torch.Tensor:
    """The matrix of a layer whose kernel keeps it in a private layout: its product with identity.

    Exact in any dtype: each output is one weight times one plus zeros.
    """
    width = getattr(layer, "input_size_per_partition", None) or layer.embedding_dim
    identity = torch.eye(width, dtype=layer.weight.dtype)
    product: torch.Tensor = layer.quant_method.apply(layer, identity, bias=None)
    return product
