"""The RolloutWorker: a Ray actor around one engine.

Ray serves its calls in several threads; the engine queues them to its own. An encoded page arrives
by reference, as the block that it was written to, and is held once in the node's shared memory.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from olmrl.config.schema import LoraConfig, RolloutConfig
from olmrl.data.encode import EncoderSpec
from olmrl.data.payload import unpack_block
from olmrl.rollout.engine import Engine, EngineStats, InFlight
from olmrl.rollout.environment import check_vllm, engine_environment, pin_to_cores, quiet
from olmrl.rollout.requests import Generated, GenerationRequest
from olmrl.types import Float32Array, Int32Array, PolicyVersion, SamplingSpec
from olmrl.weight_sync.transport import load_transport

if TYPE_CHECKING:
    from olmrl.weight_sync.checksum import Checksums

_CONTROL_THREADS = 4
"""Weight updates, aborts, scores and stats that a worker serves at once."""
_CALLS = {"poll": 1, "submit": 1}
"""Calls with threads of their own, so that neither long polls nor new pages hold up the rest."""

_SEES_GPUS: dict[bool, dict[str, str]] = {
    False: {},
    True: {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"},
}
"""Ray would hide all GPUs from a worker that holds none itself; vLLM asks about their kind."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Everything a worker needs to build its engine; picklable and light."""

    encoder: EncoderSpec
    config: RolloutConfig
    use_gpu: bool
    transport: str
    """From `weight_sync.transport.run_transport`."""
    seed: int = 0
    trust_remote_code: bool = False
    """Run code shipped with the checkpoint."""
    prometheus: bool = False
    """Publish the engine's own counters as Ray metrics."""
    lora: LoraConfig | None = None
    """Adapters that weight updates bring alone (`GrpoConfig.synced_adapter`)."""
    checksum: bool = False
    """`weight_sync.checksum`."""


@dataclass(frozen=True, slots=True)
class PollResult:
    """Finished work, and the engine's counters."""

    outputs: list[Generated]
    stats: EngineStats


class RolloutWorker:
    """One engine behind Ray.

    Args:
        worker_id: Unique in the run, replacements included.
        slot: Number of the engine; pins CPU engines to cores.
        spec: What to build.
    """

    def __init__(self, worker_id: str, slot: int, spec: WorkerSpec) -> None:
        self._worker_id = worker_id
        self._slot = slot
        self._spec = spec
        self._updates = threading.Lock()
        self._engine: Engine

    def start(self) -> float:
        """Build the engine; not in the constructor, whose errors Ray reports as a dead actor.

        Returns:
            Seconds it took.

        Raises:
            ValueError: settings or model are refused.
        """
        started = time.monotonic()
        quiet()
        if not self._spec.use_gpu:
            pin_to_cores(self._slot, max(1, int(self._spec.config.cpus_per_worker)))
        self._engine = build_engine(self._spec)
        return time.monotonic() - started

    def pid(self) -> int:
        """Process id, for chaos tests and profilers."""
        return os.getpid()

    def join(self, store: Any) -> PolicyVersion:
        """Enter the fleet and get the current weights; no work may be submitted before.

        Returns:
            The version the engine now has.
        """
        handle = ray.get_runtime_context().current_actor
        ranks = self._spec.config.tensor_parallel_size
        ray.get(store.register.remote(self._worker_id, handle, ranks))
        publication = ray.get(store.latest.remote())
        if publication is not None:
            self.sync(publication, "recompute")
            ray.get(store.mark_synced.remote(self._worker_id, publication.version))
        # Without a publication to read, the learner sends: it sees this engine as unsynced.
        while (wanted := ray.get(store.version.remote())) and self._engine.version() < wanted:
            time.sleep(0.2)
        return self._engine.version()

    @ray.method(concurrency_group="submit")
    def submit(
        self,
        group_id: str,
        block: Any,
        sampling: SamplingSpec,
        seeds: tuple[int, ...],
        wanted: tuple[int, ...] | None,
    ) -> int:
        """Queue a group of the `EncodedPage` in a block; returns the block's bytes.

        Failures come through `poll`.
        """
        page = unpack_block(block)
        self._engine.submit(GenerationRequest(group_id, page, sampling, seeds, wanted))
        return int(block.nbytes)

    @ray.method(concurrency_group="poll")
    def poll(self, timeout_s: float) -> PollResult:
        """Whatever finished, after at most `timeout_s` seconds."""
        outputs = self._engine.poll(timeout_s)
        return PollResult(outputs, self._engine.stats())

    def abort(self, group_ids: Sequence[str]) -> None:
        """Forget groups."""
        self._engine.abort(group_ids)

    def score(self, block: Any, token_ids: Int32Array, temperature: float) -> Float32Array:
        """Log-probs of a given completion of the `EncodedPage` in a block (parity guard)."""
        with self._updates:
            return self._engine.score(unpack_block(block), token_ids, temperature)

    def sync(self, publication: Any, in_flight: InFlight) -> PolicyVersion:
        """Load a publication from the object store; older ones than the engine has are ignored."""
        with self._updates:
            if publication.version <= self._engine.version():
                return self._engine.version()
            # Fetch everything first: once an update has begun it must not fail half-way.
            data = ray.get([bucket.data for bucket in publication.buckets])
            self._engine.start_weight_update()
            for bucket, flat in zip(publication.buckets, data, strict=True):
                self._engine.update_weights(bucket.info(flat))
            self._engine.finish_weight_update(publication.version, in_flight)
            return self._engine.version()

    def init_weight_transfer(self, info: Mapping[str, Any]) -> None:
        """Join a GPU transport's group."""
        self._engine.init_weight_transfer(info)

    def start_weight_update(self) -> None:
        """First of the three calls of a GPU transport's update."""
        self._engine.start_weight_update()

    def update_weights(self, info: Mapping[str, Any]) -> None:
        """Second: take (part of) the weights."""
        self._engine.update_weights(info)

    def finish_weight_update(self, version: PolicyVersion, in_flight: InFlight) -> None:
        """Third: go on under the new weights."""
        self._engine.finish_weight_update(version, in_flight)

    def checksums(self) -> list[Checksums]:
        """Checksums of the engine's weights."""
        return self._engine.checksums()

    def version(self) -> PolicyVersion:
        """The weights in use."""
        return self._engine.version()

    def stats(self) -> EngineStats:
        """Counters."""
        return self._engine.stats()

    def sleep(self) -> None:
        """Release GPU memory to a colocated learner."""
        self._engine.sleep()

    def wake(self) -> None:
        """Take GPU memory back."""
        self._engine.wake()


def actor_class(
    config: RolloutConfig, use_gpu: bool, *, ray_workers: bool = False, **options: Any
) -> Any:
    """RolloutWorker as a Ray actor with the resources and environment its engine needs.

    Args:
        config: Engine settings.
        use_gpu: Whether it runs on GPUs.
        ray_workers: Its GPUs belong to Ray actors that vLLM starts (`Transport.ray_workers`).
        options: Ray options that take precedence (placement group, fractional GPUs).
    """
    has_gpus = use_gpu and not ray_workers
    settings: dict[str, Any] = {
        "num_cpus": config.cpus_per_worker,
        "num_gpus": config.tensor_parallel_size * config.gpu_share if has_gpus else 0,
        "resources": config.resources,
        "max_concurrency": _CONTROL_THREADS,
        "runtime_env": {"env_vars": engine_environment(config, use_gpu) | _SEES_GPUS[ray_workers]},
    }
    remote: Any = ray.remote  # its stubs do not know concurrency groups
    return remote(concurrency_groups=_CALLS)(RolloutWorker).options(**settings | options)


def build_engine(spec: WorkerSpec) -> Engine:
    """The engine a specification asks for.

    Raises:
        ValueError: vLLM is configured, but missing or of a version that does not fit, or it
            refuses the model.
    """
    if spec.config.engine == "vllm":
        check_vllm()
    # Deferred imports: environment and core pinning must come before torch and vLLM, and the
    # Driver, which imports this module, needs neither.
    encoder = spec.encoder.build()
    trust = spec.trust_remote_code
    if spec.config.engine == "hf":
        from olmrl.rollout.engine_hf import HfEngine  # noqa: PLC0415

        device = None if spec.use_gpu else "cpu"
        return HfEngine(
            encoder, spec.config, device=device, trust_remote_code=trust, lora=spec.lora
        )
    transport = load_transport(spec.transport)
    from olmrl.rollout.engine_vllm import VllmEngine  # noqa: PLC0415

    return VllmEngine(
        encoder,
        spec.config,
        backend=transport.backend,
        seed=spec.seed,
        trust_remote_code=trust,
        prometheus=spec.prometheus,
        lora=spec.lora,
        checksum=spec.checksum,
        ray_workers=transport.ray_workers,
    )
