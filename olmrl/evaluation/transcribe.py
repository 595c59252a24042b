"""Pages to markdown files through the same engines as training: `python -m olmrl.bench run`.

One attempt per page, or the public pipeline's ladder (docs/formats.md#inference-ladder): attempts
at rising temperature until an answer is whole, and pages that the model calls rotated are turned
and read again. Pages are rendered, and answers written, as engines finish. A page whose file exists
is not generated again, so a killed call can be continued.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import ray

from olmrl import storage
from olmrl.config.schema import RolloutConfig
from olmrl.data.encode import Encoder, EncoderSpec
from olmrl.data.page import PageSource, load_page
from olmrl.data.payload import pack_block, unpack_block
from olmrl.data.render import BadPage
from olmrl.evaluation.reading import Generator, ReadingSpec, read_pages, whole_answer
from olmrl.markup import front_matter
from olmrl.rollout.pool import RolloutPool
from olmrl.rollout.worker import WorkerSpec
from olmrl.weight_sync.store import start_store

LADDER = (0.1, 0.1, 0.2, 0.3, 0.5, 0.8, 0.9, 1.0)
"""Temperatures of the public pipeline's attempts."""

_START_TIMEOUT_S = 900.0
_AHEAD = 4


@dataclass(frozen=True, slots=True)
class TranscribeSettings:
    """How pages become files."""

    longest_side: int = 1288
    """Pixels of the longer side."""
    temperatures: tuple[float, ...] = (0.0,)
    """One per attempt; 0 is greedy. `LADDER` for the public pipeline."""
    correct_rotation: bool = False
    """Turn a page that the answer calls rotated, and read it again."""
    top_p: float = 1.0
    repeats: int = 1
    """Transcriptions per page, each its own file."""
    seed: int = 0


@dataclass
class Transcribed:
    """What became of the pages."""

    written: int = 0
    kept: int = 0
    """Files that an earlier call wrote."""
    invalid: list[str] = field(default_factory=list)
    """Pages without a whole answer; the text of their last attempt is written."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """(page id, reason): nothing was written."""


def transcribe(
    spec: EncoderSpec,
    config: RolloutConfig,
    sources: Sequence[PageSource],
    out: str,
    settings: TranscribeSettings,
    *,
    use_gpu: bool,
    on_page: Callable[[Transcribed], None] = lambda so_far: None,
) -> Transcribed:
    """Transcribe pages into `OUT/<sub>/<name>_pg{P}_repeat{R}.md`. Needs Ray.

    Args:
        spec: Model and prompt.
        config: Engines and completion length.
        sources: Pages.
        out: Candidate folder, local or remote.
        settings: Attempts, rotation, size.
        use_gpu: Whether engines take GPUs.
        on_page: Called after each finished page.

    Raises:
        ValueError: engines refuse the model.
    """
    pool = RolloutPool(WorkerSpec(spec, config, use_gpu, "object_store"), start_store())
    try:
        pool.start()
        pool.wait_ready(_START_TIMEOUT_S)
        return write_readings(pool, spec.build(), config, sources, out, settings, on_page)
    finally:
        pool.close()


def write_readings(
    generator: Generator,
    encoder: Encoder,
    config: RolloutConfig,
    sources: Sequence[PageSource],
    out: str,
    settings: TranscribeSettings,
    on_page: Callable[[Transcribed], None] = lambda so_far: None,
) -> Transcribed:
    """As `transcribe`, with running engines: `generator` takes ObjectRefs of blocks."""
    done = Transcribed()
    spec = ReadingSpec(
        config.sampling.max_tokens, settings.temperatures, settings.top_p, settings.seed
    )
    at_once = config.max_num_seqs * config.max_workers * _AHEAD
    wanted = {
        f"{source.page_id}#{repeat}": (source, target_path(out, source, repeat))
        for source in sources
        for repeat in range(1, settings.repeats + 1)
    }

    def pages() -> Iterator[tuple[str, Any]]:
        for name, (source, target) in wanted.items():
            if storage.exists(target):
                done.kept += 1
                continue
            try:
                page = encoder.encode_page(load_page(source, settings.longest_side))
            except BadPage as error:
                done.failed.append((source.page_id, str(error)))
                continue
            yield name, ray.put(pack_block(page))

    def turned(block: Any, degrees: int) -> Any:
        return ray.put(pack_block(encoder.turned(unpack_block(ray.get(block)), degrees)))

    turn = turned if settings.correct_rotation else None
    for reading in read_pages(generator, pages(), spec, at_once=at_once, turn=turn):
        source, target = wanted[reading.name]
        if reading.completion is None:
            done.failed.append((source.page_id, reading.failure))
        else:
            if whole_answer(reading.completion) is None:
                done.invalid.append(source.page_id)
            storage.write_text(target, front_matter.strip(reading.completion.text))
            done.written += 1
        on_page(done)
    return done


def target_path(out: str, source: PageSource, repeat: int) -> str:
    """Path of a transcription."""
    pdf = PurePosixPath(source.page_id.rpartition("::")[0])
    name = f"{pdf.stem}_pg{source.page_number}_repeat{repeat}.md"
    return storage.join(out, *pdf.parent.parts, name)
