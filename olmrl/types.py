"""The frozen payloads that travel between olmrl's parts, in the order of their life.

    Page -> Completion -> Rollout -> PromptGroup -> PackedBatch

Plain Python and numpy only: every process (engine, scorer, learner, driver) can import this
without torch. Shape letters: P prompt tokens, R completion tokens, T packed tokens, N predicted
tokens, V vision patches, K bytes of a patch, I images, H/W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

NO_SIGNAL_RANGE = 1e-6
"""A group whose rewards (`PromptGroup.signals`) differ by no more than this teaches nothing."""

REJECTED = "rejected"
"""`checked` of a test that a person rejected: it does not count."""

Int32Array = NDArray[np.int32]
Int64Array = NDArray[np.int64]
Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
UInt8Array = NDArray[np.uint8]


class PolicyVersion(NamedTuple):
    """Which weights made a token: ordered, never reused (docs/design.md#the-commit-protocol).

    Example: `PolicyVersion(1, 17)` is the weights after step 17 of the learner's second start.
    """

    incarnation: int
    """Counts learner (re)starts; rises by one at each, so a replayed step is a new version."""
    step: int
    """Steps in the weights; a step learns from one batch of pages."""

    def __str__(self) -> str:
        return f"{self.incarnation}.{self.step}"

    @classmethod
    def parse(cls, text: str) -> PolicyVersion:
        """Read back what `str()` wrote."""
        incarnation, step = text.split(".")
        return cls(int(incarnation), int(step))


@dataclass(frozen=True, slots=True)
class Page:
    """A page and all that is known of its truth; its pixels travel separately."""

    page_id: str
    """`<pdf relative to its folder>::<page number>`, unique in a data set."""
    pdf_path: str
    """Local path or fsspec URL of the PDF."""
    page_number: int
    """1-based page in the PDF."""
    reference: str | None = None
    """Truth: front matter and markdown body, or None if there are only unit tests."""
    tests: tuple[dict[str, Any], ...] = ()
    """olmOCR-bench rows of this page from all JSONL files (docs/formats.md#bench-tests)."""
    test_files: tuple[str, ...] = ()
    """The JSONL file (scoring category) of each row of `tests`."""


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """A page with its pixels, before they are cut into patches."""

    page: Page
    image: UInt8Array
    """[H, W, 3] RGB"""


@dataclass(frozen=True, slots=True)
class VersionSpan:
    """Tokens `[start, end)` of a completion were made by `version`."""

    version: PolicyVersion
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SamplingSpec:
    """How completions of one page are drawn."""

    temperature: float
    top_p: float
    max_tokens: int
    """Most completion tokens, the end token included."""
    greedy: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled transcription, as the engine returned it; ids are never re-made from text."""

    group_id: str
    """The prompt group it belongs to."""
    index: int
    """Position in the group, 0 <= index < G; seeds its sampling."""
    token_ids: Int32Array
    """[R] sampled ids, the end token included when one was sampled."""
    logprobs: Float32Array
    """[R] log-probability of each id at the sampling temperature, vision ids masked, over the full
    vocabulary (nucleus truncation is not renormalised)."""
    versions: tuple[VersionSpan, ...]
    """Which weights made which tokens; more than one span after an in-flight weight update."""
    finish_reason: str
    """`stop` (end token), `length` (cut at max_tokens) or `abort`."""
    text: str
    """Decoded text without special tokens."""
    prompt_token_ids: Int32Array
    """[P] ids the engine saw, image placeholders expanded."""
    cached_tokens: int = 0
    """Prompt tokens that the engine's prefix cache served."""

    @property
    def oldest_version(self) -> PolicyVersion:
        """The oldest weights that made any of its tokens; staleness is measured from it."""
        return min(span.version for span in self.versions)


@dataclass(frozen=True, slots=True)
class TestVerdict:
    """One unit test on one completion."""

    __test__ = False

    test_id: str
    type: str
    file: str
    """JSONL file (scoring category) the test came from."""
    passed: bool
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class RewardResult:
    """One reward of one completion; a failed one has no number: its value is NaN."""

    value: float
    """The score, usually 0..1; NaN iff failed."""
    parts: dict[str, float] = field(default_factory=dict)
    """Named components, e.g. pass rate per test type."""
    verdicts: tuple[TestVerdict, ...] = ()
    failed: bool = False
    error: str = ""
    """Why it failed, in one sentence."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A completion with its rewards."""

    completion: Completion
    rewards: dict[str, RewardResult]
    """Per configured reward name."""
    total: float
    """Weighted sum; NaN iff any reward failed (then the whole group is dropped)."""
    shares: dict[str, float] = field(default_factory=dict)
    """What each configured reward adds to the total: its value times its weight at that step."""
    signal: float | None = None
    """What the advantage is taken from; None: the total."""


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """All G rollouts of one page: complete, or it does not exist."""

    group_id: str
    page_id: str
    rollouts: tuple[Rollout, ...]
    """G rollouts in order of `completion.index`."""
    page: Any = None
    """Ray ObjectRef of its page: of the `Page` as it leaves the scorers, of the engines'
    `EncodedPage` block as it reaches the learner."""

    @property
    def totals(self) -> Float32Array:
        """[G] total reward of each rollout."""
        return np.asarray([r.total for r in self.rollouts], dtype=np.float32)

    @property
    def signals(self) -> Float32Array:
        """[G] what the advantage of each rollout is taken from."""
        values = [r.total if r.signal is None else r.signal for r in self.rollouts]
        return np.asarray(values, dtype=np.float32)

    @property
    def oldest_version(self) -> PolicyVersion:
        """The oldest weights in the group."""
        return min(r.completion.oldest_version for r in self.rollouts)


@dataclass(frozen=True, slots=True)
class EncodedPage:
    """A page as the model takes it, made once: prompt ids and patches."""

    page_id: str
    prompt_ids: Int64Array
    """[P] ids of the whole chat prompt, image placeholders expanded."""
    patches: UInt8Array
    """[V, K] pixels by patch, one frame, not normalised (`models.patches.ImagePatcher`)."""
    image_grid_thw: Int64Array
    """[I, 3] patches per image in time, height, width (before spatial merging)."""


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Sequences packed into one row of T tokens: SFT pages, dense rollouts or page-once groups.

    Attention: token t sees s iff s <= t and (segment_ids[s] == segment_ids[t] or
    segment_ids[s] == prefix_ids[t]). A page-once group is one prefix segment (the prompt) followed
    by G segments whose prefix it is. A prefix always comes before the segments that see it.

    The loss lives on N predicted tokens: the hidden state at `predict_at[n]` predicts
    `targets[n]`. In a page-once group the first token of every completion is predicted at the last
    prompt token.
    """

    token_ids: Int64Array
    """[T]"""
    position_ids: Int64Array
    """[3, T] M-RoPE positions (time, height, width)."""
    segment_ids: Int32Array
    """[T] one id per sequence, unique in the batch, non-negative."""
    prefix_ids: Int32Array
    """[T] segment every token of this segment may also attend to; -1: none."""
    predict_at: Int64Array
    """[N] position in 0..T-1 whose hidden state predicts the target."""
    targets: Int64Array
    """[N] token to be predicted."""
    sequence_ids: Int32Array
    """[N] 0..S-1: the SFT page or rollout each target belongs to."""
    patches: UInt8Array
    """[V, K] patches of all images in order of appearance, one frame, not normalised."""
    image_grid_thw: Int64Array
    """[I, 3]"""
    weights: Float32Array
    """[N] weight of each target in the loss (1 trained, 0 masked)."""
    advantages: Float32Array | None = None
    """[N] GRPO only: advantage of the target's rollout."""
    behaviour_logprobs: Float32Array | None = None
    """[N] GRPO only: log-probability under the engine that sampled it."""
    old_logprobs: Float32Array | None = None
    """[N] GRPO only: log-probability under the learner before this batch's first update."""
    reference_logprobs: Float32Array | None = None
    """[N] GRPO with KL only: log-probability under the reference policy."""
    teacher_logprobs: Float32Array | None = None
    """[N] distillation by reward only: log-probability under the teacher."""
    page_ids: tuple[str, ...] = ()
    """Page of each image, for messages and feature caches."""

    @property
    def num_tokens(self) -> int:
        """T, the tokens that linear layers see."""
        return len(self.token_ids)
