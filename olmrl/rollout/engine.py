"""What an engine is: pages go in, completions come out one by one, weights can be replaced.

    GenerationRequest -> Engine.submit ... Engine.poll -> Completion | GenerationFailure

`VllmEngine` and `HfEngine` keep this protocol; `RolloutWorker` puts one of them behind Ray. Engines
know nothing of groups being whole, of the ledger or of the learner: they only report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from olmrl.types import (
    Completion,
    EncodedPage,
    Float32Array,
    Int32Array,
    PolicyVersion,
    SamplingSpec,
)

InFlight: TypeAlias = Literal["recompute", "keep_kv"]
BASE_VERSION = PolicyVersion(0, 0)
"""The weights an engine loaded from disk, before any weight sync."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """G completions of one page, over one prefill."""

    group_id: str
    """Unique among the requests that are alive."""
    page: EncodedPage
    """Prompt ids and patches of one image, for all completions."""
    sampling: SamplingSpec
    """Temperature, top_p, length, greedy."""
    seeds: tuple[int, ...]
    """[G] one sampling seed per completion; `seeds[i]` belongs to `Completion.index == i`."""
    wanted: tuple[int, ...] | None = None
    """Indices to deliver; None: all G. A re-issued group names only those still missing."""

    @property
    def indices(self) -> tuple[int, ...]:
        """The completion indices this request delivers."""
        return tuple(range(len(self.seeds))) if self.wanted is None else self.wanted


@dataclass(frozen=True, slots=True)
class GenerationFailure:
    """A group that cannot be generated (a page that does not fit, say): dropped, never silent."""

    group_id: str
    reason: str
    """One sentence for `bad_pages.jsonl` and the log."""


Generated: TypeAlias = Completion | GenerationFailure


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


class Engine(Protocol):
    """One policy, generating. All methods may be called from any thread.

    The weight-update cycle is vLLM's: `init_weight_transfer` once, then for each version
    `start_weight_update`, any number of `update_weights`, `finish_weight_update`. No token is made
    between start and finish.
    """

    def submit(self, request: GenerationRequest) -> None:
        """Queue a request; completions come through `poll`.

        Raises:
            ValueError: the page's image tokens and patches do not agree.
        """

    def poll(self, timeout_s: float) -> list[Generated]:
        """Everything finished since the last call; waits up to `timeout_s` for the first.

        Raises:
            EngineBroken: the engine must be replaced.
        """

    def abort(self, group_ids: Sequence[str]) -> None:
        """Forget these groups: nothing more of them is returned."""

    def score(self, page: EncodedPage, token_ids: Int32Array, temperature: float) -> Float32Array:
        """[R] log-probs of a given completion, in one forward pass over prompt and completion.

        Same definition as `Completion.logprobs`: at `temperature`, banned ids masked.
        """

    def init_weight_transfer(self, info: Mapping[str, Any]) -> None:
        """Join the learner's transport; `info` is the transport's own."""

    def start_weight_update(self) -> None:
        """Stop making tokens and get ready for new weights.

        Raises:
            EngineBroken: an update was started and never finished (its learner died): the weights
                are a mixture.
        """

    def update_weights(self, info: Mapping[str, Any]) -> None:
        """Take one bucket of weights."""

    def finish_weight_update(self, version: PolicyVersion, in_flight: InFlight) -> None:
        """Go on under the new weights, with no prefix or vision feature of the old ones.

        Running requests re-prefill under the new weights (`recompute`) or keep their old key/value
        cache (`keep_kv`: later tokens are then mixed).
        """

    def checksums(self) -> dict[str, tuple[int, int]]:
        """Per parameter, in the names of `weight_sync.checksum`: (hash, number of elements)."""

    def sleep(self) -> None:
        """Give accelerator memory to a colocated learner; the weights must be re-sent after."""

    def wake(self) -> None:
        """Take the memory back."""

    def version(self) -> PolicyVersion:
        """The weights in use."""

    def stats(self) -> EngineStats:
        """Counters for progress detection and metrics."""

    def close(self) -> None:
        """Stop the engine thread and release the model."""
