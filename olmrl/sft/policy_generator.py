"""The policy in this process as a Generator (`evaluation.reading`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from olmrl.data.encode import Encoder
from olmrl.learner.generation import generate_greedily
from olmrl.types import Completion, EncodedPage, PolicyVersion, SamplingSpec, VersionSpan


class PolicyGenerator:
    """Reads encoded pages greedily, several side by side.

    Args:
        model: From `learner.generation.whole_copy`.
        encoder: Of the model.
        version: Of its weights.
        batch_pages: Pages read side by side.
    """

    def __init__(
        self, model: Any, encoder: Encoder, version: PolicyVersion, batch_pages: int
    ) -> None:
        self._model = model
        self._encoder = encoder
        self._version = version
        self._batch_pages = batch_pages
        self._waiting: list[tuple[str, EncodedPage, SamplingSpec]] = []

    def submit(
        self, group_id: str, page: EncodedPage, sampling: SamplingSpec, seeds: tuple[int, ...]
    ) -> None:
        """Queue a page for the next batches."""
        assert sampling.greedy, "the policy itself only reads greedily"
        self._waiting.append((group_id, page, sampling))

    def poll(self, timeout_s: float) -> list[Completion]:
        """Read the next batch, however long that takes."""
        batch = self._waiting[: self._batch_pages]
        self._waiting = self._waiting[self._batch_pages :]
        if not batch:
            return []
        read = generate_greedily(
            self._model,
            [page for _, page, _ in batch],
            self._encoder,
            max_tokens=max(sampling.max_tokens for _, _, sampling in batch),
            batch_pages=self._batch_pages,
        )
        return [
            Completion(
                group_id=group_id,
                index=0,
                token_ids=ids,
                logprobs=np.zeros(0, np.float32),
                versions=(VersionSpan(self._version, 0, len(ids)),),
                finish_reason="stop" if self._encoder.end_id in ids else "length",
                text=self._encoder.decode(ids),
                prompt_token_ids=page.prompt_ids.astype(np.int32),
            )
            for (group_id, page, _), ids in zip(batch, read, strict=True)
        ]
