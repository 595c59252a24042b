"""What an engine is: pages go in, completions come out one by one, weights can be replaced.

    GenerationRequest -> Engine.submit ... Engine.poll -> Completion | GenerationFailure

`VllmEngine` and `HfEngine` are the two; `RolloutWorker` puts one of them behind Ray. Engines know
nothing of whole groups, of the ledger or of the learner: they only report.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from olmrl.config.schema import RolloutConfig
from olmrl.data.encode import Encoder
from olmrl.errors import EngineBroken
from olmrl.models.patches import images_encoded
from olmrl.rollout.loop import EngineLoop
from olmrl.rollout.requests import (
    Generated,
    GenerationFailure,
    GenerationRequest,
    OpenGroup,
    OpenGroups,
    too_long,
)
from olmrl.types import EncodedPage, Float32Array, Int32Array, PolicyVersion

InFlight: TypeAlias = Literal["recompute", "keep_kv"]
BASE_VERSION = PolicyVersion(0, 0)
"""The weights an engine loaded from disk, before any weight sync."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What an engine has done so far, and what is left."""

    unfinished: int
    """Completions submitted and not yet finished."""
    running: int
    """Completions being decoded."""
    steps: int
    """Engine steps since start; it stands still when the engine hangs."""
    idle_s: float
    """Seconds since the last step that made progress, 0 when there is nothing to do."""
    generated_tokens: int
    """Completion tokens of finished completions."""
    prompt_tokens: int
    """Prompt tokens of finished completions, each completion counted."""
    cached_tokens: int
    """Prompt tokens that came from the prefix cache."""
    busy_s: float
    """Seconds spent in engine steps."""
    sync_s: float
    """Seconds between start and finish of weight updates."""
    updating_s: float
    """Age of the weight update in progress, 0 when there is none; long: its learner died."""
    image_calls: int
    """Images that its process has cut into patches; pages come as patches, so none."""


class Engine(ABC):
    """One policy, generating. All methods may be called from any thread.

    The weight-update cycle is vLLM's: `init_weight_transfer` once, then for each version
    `start_weight_update`, any number of `update_weights`, `finish_weight_update`. No token is made
    between start and finish.

    Args:
        encoder: The learner's encoder; names the model, its end token and its banned ids.
        config: Engine settings.
    """

    def __init__(self, encoder: Encoder, config: RolloutConfig) -> None:
        self._encoder = encoder
        self._config = config
        self._version = BASE_VERSION
        self._groups = OpenGroups()
        self._updating_since: float | None = None
        self._sync_s = 0.0
        self._generated = self._prompted = self._cached = 0
        self._loop: EngineLoop[Any] = EngineLoop(self._step, lambda: bool(self._groups))

    @abstractmethod
    def _step(self) -> list[Any]:
        """Make some tokens, in the engine thread; returns what finished."""

    def submit(self, request: GenerationRequest) -> None:
        """Queue a request; completions come through `poll`.

        Raises:
            ValueError: the page's image tokens and patches do not agree.
        """
        image = self._image(request.page)
        room = self._config.max_model_len - len(request.page.prompt_ids)
        if room < 1:
            self._loop.emit(GenerationFailure(request.group_id, too_long(request, room)))
            return
        group = OpenGroup(request, min(request.sampling.max_tokens, room), image)
        self._loop.call(lambda: self._groups.add(group))

    @abstractmethod
    def _image(self, page: EncodedPage) -> Any:
        """Check a page; its image in the engine's own form, made in the caller's thread."""

    @abstractmethod
    def poll(self, timeout_s: float) -> list[Generated]:
        """Everything finished since the last call; waits up to `timeout_s` for the first.

        Raises:
            EngineBroken: the engine must be replaced.
        """

    def abort(self, group_ids: Sequence[str]) -> None:
        """Forget these groups: nothing more of them is returned."""
        self._loop.call(lambda: self._drop(self._groups.abort(group_ids)))

    @abstractmethod
    def _drop(self, group_ids: set[str]) -> None:
        """Stop decoding what runs of these groups."""

    @abstractmethod
    def score(self, page: EncodedPage, token_ids: Int32Array, temperature: float) -> Float32Array:
        """[R] log-probs of a given completion, in one forward pass over prompt and completion.

        Same definition as `Completion.logprobs`: at `temperature`, banned ids masked.

        Raises:
            ValueError: prompt and completion exceed the engine's window.
        """

    @abstractmethod
    def init_weight_transfer(self, info: Mapping[str, Any]) -> None:
        """Join the learner's transport; `info` is the transport's own."""

    def start_weight_update(self) -> None:
        """Stop making tokens and get ready for new weights.

        Raises:
            EngineBroken: an update was started and never finished (its learner died): the weights
                are a mixture.
        """

        def work() -> None:
            self._refuse_half_updated()
            self._loop.paused = True
            self._updating_since = time.monotonic()
            self._open_weights()

        self._loop.call(work)

    def _refuse_half_updated(self) -> None:
        if self._updating_since is not None:
            error = EngineBroken("the last weight update was never finished")
            self._loop.break_down(error)
            raise error

    @abstractmethod
    def _open_weights(self) -> None:
        """Make the model accept weights."""

    @abstractmethod
    def update_weights(self, info: Mapping[str, Any]) -> None:
        """Take one bucket of weights."""

    def finish_weight_update(self, version: PolicyVersion, in_flight: InFlight) -> None:
        """Go on under the new weights, with no prefix or vision feature of the old ones.

        Running requests re-prefill under the new weights (`recompute`) or keep their old key/value
        cache (`keep_kv`: later tokens are then mixed).
        """

        def work() -> None:
            assert self._updating_since is not None, "finish without start"
            self._adopt_weights(version, in_flight)
            self._version = version
            self._sync_s += time.monotonic() - self._updating_since
            self._updating_since = None
            self._loop.paused = False

        self._loop.call(work)

    @abstractmethod
    def _adopt_weights(self, version: PolicyVersion, in_flight: InFlight) -> None:
        """Make the model runnable again and drop what the old weights computed."""

    @abstractmethod
    def checksums(self) -> list[dict[str, tuple[int, int]]]:
        """Of each tensor-parallel rank, by the names of `weight_sync.checksum`: (hash, numbers)."""

    @abstractmethod
    def sleep(self) -> None:
        """Give accelerator memory to a colocated learner; the weights must be re-sent after."""

    @abstractmethod
    def wake(self) -> None:
        """Take the memory back; no token is made before the next weight update."""

    def version(self) -> PolicyVersion:
        """The weights in use."""
        return self._version

    def stats(self) -> EngineStats:
        """Counters for progress detection and metrics; answers even while a step hangs."""
        since = self._updating_since
        return EngineStats(
            unfinished=self._groups.unfinished,
            running=self._num_running(),
            steps=self._loop.steps,
            idle_s=self._loop.idle_s,
            generated_tokens=self._generated,
            prompt_tokens=self._prompted,
            cached_tokens=self._cached,
            busy_s=self._loop.busy_s,
            sync_s=self._sync_s,
            updating_s=time.monotonic() - since if since is not None else 0.0,
            image_calls=images_encoded(),
        )

    @abstractmethod
    def _num_running(self) -> int:
        """Completions being decoded."""

    def close(self) -> None:
        """Stop the engine thread and release the model."""
        self._loop.close()
