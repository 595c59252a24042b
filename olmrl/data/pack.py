"""Sequences packed into rows (`PackedBatch`): SFT pages, dense rollouts, page-once groups.

A row holds whole sequences; nothing is ever cut. A sequence longer than the token budget makes a
row of its own. A page-once group that is too large is spread over several rows by its completions,
each row repeating the prompt and the image. Shape letters: P prompt, R completion, N predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from olmrl.data.encoded import IGNORED, EncodedExample
from olmrl.models.mrope import VisionTokens, text_positions
from olmrl.types import EncodedPage, Float32Array, Int32Array, Int64Array, PackedBatch

Column = Literal["old_logprobs", "reference_logprobs", "teacher_logprobs"]
"""What the learner finds out about each token before the first update of a batch."""


class ScoredCompletion(NamedTuple):
    """One rollout as the learner takes it."""

    token_ids: Int32Array
    """[R] sampled ids."""
    logprobs: Float32Array
    """[R] under the engine that sampled them."""
    advantage: float
    weights: Float32Array
    """[R] 1 where a token is trained, 0 where it is masked."""
    old_logprobs: Float32Array | None = None
    """[R] under the learner before the batch's first update, once known."""
    reference_logprobs: Float32Array | None = None
    """[R] under the reference policy, once known."""
    teacher_logprobs: Float32Array | None = None
    """[R] under the teacher, once known."""


class GroupItem(NamedTuple):
    """A page with the completions to train on."""

    page: EncodedPage
    completions: Sequence[ScoredCompletion]


class PackedRow(NamedTuple):
    """A row, and whose tokens its targets are."""

    batch: PackedBatch
    completions: tuple[ScoredCompletion, ...]
    """In the order of the targets."""


class _Row:
    """A packed row while it is being filled."""

    def __init__(self, vision: VisionTokens) -> None:
        self._vision = vision
        self._length = self._segments = self._sequences = 0
        self._tokens: list[tuple[Int64Array, Int64Array, Int32Array, Int32Array]] = []
        self._targets: list[tuple[Int64Array, Int64Array, Int32Array]] = []
        self._weights: list[Float32Array] = []
        self._advantages: list[Float32Array] = []
        self._logprobs: list[Float32Array] = []
        self.completions: list[ScoredCompletion] = []
        self._pages: list[EncodedPage] = []

    def add_segment(self, ids: Int64Array, positions: Int64Array, prefix: int = -1) -> int:
        """Append tokens that attend to each other and to `prefix`; return their segment id."""
        segment = self._segments
        shape = len(ids)
        self._tokens.append(
            (
                np.asarray(ids, np.int64),
                positions,
                np.full(shape, segment, np.int32),
                np.full(shape, prefix, np.int32),
            )
        )
        self._segments += 1
        self._length += shape
        return segment

    def add_page(self, page: EncodedPage) -> tuple[Int64Array, int]:
        """Add a page's patches; return its prompt positions and the position that follows."""
        self._pages.append(page)
        try:
            return self._vision.positions(page.prompt_ids, page.image_grid_thw)
        except ValueError as error:
            raise ValueError(f"{page.page_id}: {error}") from error

    def add_targets(self, at: Int64Array, targets: Int64Array, weights: Float32Array) -> None:
        """Append the predicted tokens of the next sequence."""
        sequence = np.full(len(at), self._sequences, np.int32)
        self._targets.append((at, np.asarray(targets, np.int64), sequence))
        self._weights.append(np.asarray(weights, np.float32))
        self._sequences += 1

    def add_example(self, example: EncodedExample) -> None:
        """Append an SFT page."""
        start, prompt = self._length, example.page.prompt_ids
        self._add_dense(example.page, example.response_ids)
        learnt = np.flatnonzero(example.labels != IGNORED)
        at = start + len(prompt) - 1 + learnt
        self.add_targets(at, example.labels[learnt], np.ones(len(learnt), np.float32))

    def _add_dense(self, page: EncodedPage, response: Int64Array | Int32Array) -> None:
        positions, following = self.add_page(page)
        self.add_segment(
            np.concatenate([page.prompt_ids, response]),
            np.concatenate([positions, text_positions(following, len(response))], axis=1),
        )

    def add_dense(self, item: GroupItem) -> None:
        """Append every completion with its own copy of prompt and image."""
        for completion in item.completions:
            start, prompt = self._length, len(item.page.prompt_ids)
            self._add_dense(item.page, completion.token_ids)
            at = start + prompt - 1 + np.arange(len(completion.token_ids))
            self._add_actions(at, completion)

    def add_page_once(self, item: GroupItem) -> None:
        """Append the prompt once, then every completion after it."""
        positions, following = self.add_page(item.page)
        prefix = self.add_segment(item.page.prompt_ids, positions)
        last_prompt_token = self._length - 1
        for completion in item.completions:
            start, length = self._length, len(completion.token_ids)
            self.add_segment(
                np.asarray(completion.token_ids, np.int64),
                text_positions(following, length),
                prefix,
            )
            at = start - 1 + np.arange(length)
            at[:1] = last_prompt_token
            self._add_actions(at, completion)

    def _add_actions(self, at: Int64Array, completion: ScoredCompletion) -> None:
        length = len(completion.token_ids)
        assert len(completion.logprobs) == len(completion.weights) == length
        self.add_targets(at, np.asarray(completion.token_ids, np.int64), completion.weights)
        self._advantages.append(np.full(length, completion.advantage, np.float32))
        self._logprobs.append(np.asarray(completion.logprobs, np.float32))
        self.completions.append(completion)

    def _column(self, name: Column) -> Float32Array | None:
        found = [getattr(completion, name) for completion in self.completions]
        known = bool(found) and found[0] is not None
        return np.concatenate(found).astype(np.float32) if known else None

    def build(self) -> PackedBatch:
        """The finished row."""
        ids, positions, segments, prefixes = zip(*self._tokens, strict=True)
        at, targets, sequences = zip(*self._targets, strict=True)
        return PackedBatch(
            token_ids=np.concatenate(ids),
            position_ids=np.concatenate(positions, axis=1),
            segment_ids=np.concatenate(segments),
            prefix_ids=np.concatenate(prefixes),
            predict_at=np.concatenate(at),
            targets=np.concatenate(targets),
            sequence_ids=np.concatenate(sequences),
            patches=np.concatenate([page.patches for page in self._pages]),
            image_grid_thw=np.concatenate([page.image_grid_thw for page in self._pages]),
            weights=np.concatenate(self._weights),
            advantages=np.concatenate(self._advantages) if self._advantages else None,
            behaviour_logprobs=np.concatenate(self._logprobs) if self._logprobs else None,
            old_logprobs=self._column("old_logprobs"),
            reference_logprobs=self._column("reference_logprobs"),
            teacher_logprobs=self._column("teacher_logprobs"),
            page_ids=tuple(p.page_id for p in self._pages for _ in p.image_grid_thw),
        )


def pack_examples(
    examples: Sequence[EncodedExample], token_budget: int, vision: VisionTokens
) -> list[PackedBatch]:
    """Pack SFT pages into as few rows as first-fit-decreasing finds.

    Args:
        examples: Encoded pages; the loss does not depend on how they are spread.
        token_budget: Most tokens of a row that holds more than one page.
        vision: The model's image placeholders (`Encoder.vision`).

    Raises:
        ValueError: a page's placeholders do not match its image grid (names the page).
    """
    batches = []
    for members in _first_fit([example.num_tokens for example in examples], token_budget):
        row = _Row(vision)
        for member in members:
            row.add_example(examples[member])
        batches.append(row.build())
    return batches


def pack_groups(
    items: Sequence[GroupItem], token_budget: int, page_once: bool, vision: VisionTokens
) -> list[PackedBatch]:
    """`pack_rows` without saying whose tokens the targets are."""
    return [row.batch for row in pack_rows(items, token_budget, page_once, vision)]


def pack_rows(
    items: Sequence[GroupItem], token_budget: int, page_once: bool, vision: VisionTokens
) -> list[PackedRow]:
    """Pack GRPO groups; a completion is never split.

    Args:
        items: Pages with their completions.
        token_budget: Most tokens of a row that holds more than one completion.
        page_once: One prompt and image per group and row, else one per completion.
        vision: The model's image placeholders (`Encoder.vision`).

    Raises:
        ValueError: a page's placeholders do not match its image grid (names the page).
    """
    parts = [part for item in items for part in _split(item, token_budget, page_once)]
    rows = []
    for members in _first_fit([_tokens(part, page_once) for part in parts], token_budget):
        row = _Row(vision)
        for member in members:
            if page_once:
                row.add_page_once(parts[member])
            else:
                row.add_dense(parts[member])
        rows.append(PackedRow(row.build(), tuple(row.completions)))
    return rows


def _tokens(item: GroupItem, page_once: bool) -> int:
    prompts = 1 if page_once else len(item.completions)
    return prompts * len(item.page.prompt_ids) + sum(len(c.token_ids) for c in item.completions)


def _split(item: GroupItem, token_budget: int, page_once: bool) -> list[GroupItem]:
    """A group in parts that each fit the budget, unless a single completion exceeds it."""
    if not item.completions:
        return []
    if not page_once:
        return [item._replace(completions=[completion]) for completion in item.completions]
    room = max(token_budget - len(item.page.prompt_ids), 1)
    lengths = [len(c.token_ids) for c in item.completions]
    return [
        item._replace(completions=[item.completions[k] for k in members])
        for members in _first_fit(lengths, room)
    ]


def _first_fit(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """First-fit decreasing: indices per bin, ascending; whatever exceeds the capacity is alone."""
    if capacity < 1:
        raise ValueError(f"token budget is {capacity}, must be >= 1")
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda k: -sizes[k]):
        place = next((b for b, free in enumerate(room) if sizes[index] <= free), None)
        if place is None:
            bins.append([])
            room.append(capacity)
            place = len(bins) - 1
        bins[place].append(index)
        room[place] -= sizes[index]
    return sorted(sorted(members) for members in bins)
