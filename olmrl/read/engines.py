"""Pages read by the training engines: Ray Data draws and encodes them, Ray actors transcribe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from olmrl.config.schema import RolloutConfig
from olmrl.data.encode import EncoderSpec
from olmrl.data.payload import pack_block, unpack_block
from olmrl.data.render import BadPage
from olmrl.data.streams import OrderedStream
from olmrl.read.backend import Item, Usage
from olmrl.read.rendering import CountWork, EncodeWork
from olmrl.rollout.pool import RolloutPool
from olmrl.rollout.worker import WorkerSpec
from olmrl.types import Completion
from olmrl.weight_sync.store import start_store

_START_TIMEOUT_S = 1800.0
"""A 7B model may have to be downloaded first."""
_AHEAD = 1.25
"""Pages under way per page that an engine decodes; the rest wait beside it."""
_RENDERED_AHEAD = 32
"""Pages drawn ahead, per engine."""
_COUNTED_AHEAD = 4096
_COUNTS_PER_TASK = 16


class EngineBackend:
    """Engines that are up.

    Args:
        pool: the engines.
        encoder: model and prompt.
        config: engine settings.
        longest_side: pixels of the longer side of a page.
    """

    def __init__(
        self, pool: RolloutPool, encoder: EncoderSpec, config: RolloutConfig, longest_side: int
    ) -> None:
        self.generator = pool
        self.at_once = max(8, int(config.max_num_seqs * config.max_workers * _AHEAD))
        self._spec = encoder
        self._engines = config.max_workers
        self._longest_side = longest_side

    def count(self, paths: Sequence[str]) -> Iterator[int | BadPage]:
        """Number of pages of each PDF, in order."""
        work = CountWork(tuple(paths))
        stream = OrderedStream(
            work, None, epochs=1, prefetch=_COUNTED_AHEAD, most_per_task=_COUNTS_PER_TASK
        )
        return (item.note for item in stream)

    def pages(self, items: Sequence[Item]) -> Iterator[tuple[str, Any]]:
        """(name, ObjectRef of the block of its EncodedPage), or a `BadPage`."""
        work = EncodeWork(tuple(item.source for item in items), self._longest_side, self._spec)
        ahead = _RENDERED_AHEAD * self._engines
        for found in OrderedStream(work, None, epochs=1, prefetch=ahead):
            name = items[found.index].name
            yield name, found.payload if found.note is None else found.note

    def turn(self, page: Any, degrees: int) -> Any:
        """The page turned counter-clockwise."""
        turned = self._spec.build().turned(unpack_block(ray.get(page)), degrees)
        return ray.put(pack_block(turned))

    def usage(self, answer: Completion) -> Usage:
        """Tokens of an answer."""
        return Usage(len(answer.prompt_token_ids), len(answer.token_ids))


@contextmanager
def engines(
    encoder: EncoderSpec,
    config: RolloutConfig,
    longest_side: int,
    *,
    use_gpu: bool,
    trust_remote_code: bool = False,
) -> Iterator[EngineBackend]:
    """Engines from start to end. Needs Ray.

    Args:
        encoder: model and prompt.
        config: engine settings.
        longest_side: pixels of the longer side of a page.
        use_gpu: whether engines take GPUs.
        trust_remote_code: run code shipped with the model.

    Raises:
        ValueError: the model is refused.
    """
    encoder.build().check_chat()
    spec = WorkerSpec(encoder, config, use_gpu, "object_store", trust_remote_code=trust_remote_code)
    pool = RolloutPool(spec, start_store())
    try:
        pool.start()
        pool.wait_ready(_START_TIMEOUT_S)
        yield EngineBackend(pool, encoder, config, longest_side)
    finally:
        pool.close()
