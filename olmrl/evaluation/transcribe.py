"""Pages to markdown through the same engines that training uses: `python -m olmrl.bench run`.

One attempt per page, or the public pipeline's ladder (docs/formats.md#inference-ladder): further
attempts at rising temperature until an answer is whole, and a page that the model calls rotated is
turned and read again. Pages are rendered and answers written as engines finish them; a page whose
file exists is not generated again, so a killed call continues.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import ray

from olmrl import storage
from olmrl.config.schema import RolloutConfig
from olmrl.data.encode import EncoderSpec
from olmrl.data.page import PageSource, load_page
from olmrl.data.render import BadPage
from olmrl.markup import front_matter
from olmrl.rollout.engine import GenerationFailure
from olmrl.rollout.pool import RolloutPool
from olmrl.rollout.worker import WorkerSpec
from olmrl.types import Completion, Page, SamplingSpec
from olmrl.weight_sync.store import start_store

LADDER = (0.1, 0.1, 0.2, 0.3, 0.5, 0.8, 0.9, 1.0)
"""Temperatures of the public pipeline's attempts."""

_START_TIMEOUT_S = 900.0
_AHEAD = 4


@dataclass(frozen=True, slots=True)
class TranscribeSettings:
    """How pages are read."""

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
class Outcome:
    """What became of the pages."""

    written: int = 0
    kept: int = 0
    """Files of an earlier call."""
    invalid: list[str] = field(default_factory=list)
    """Pages whose last attempt was still not whole; their last text is written."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """(page id, reason): nothing was written."""


@dataclass
class _Task:
    """One transcription under way."""

    source: PageSource
    target: str
    repeat: int
    page: Page
    attempt: int = 0
    turned: int = 0
    """Degrees counter-clockwise the page has been turned by."""
    last_valid: str | None = None


def transcribe(
    spec: EncoderSpec,
    config: RolloutConfig,
    sources: Sequence[PageSource],
    out: str,
    settings: TranscribeSettings,
    *,
    use_gpu: bool,
    on_page: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
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
        return _Transcriber(pool, config, sources, out, settings, on_page).run()
    finally:
        pool.close()


class _Transcriber:
    def __init__(
        self,
        pool: RolloutPool,
        config: RolloutConfig,
        sources: Sequence[PageSource],
        out: str,
        settings: TranscribeSettings,
        on_page: Callable[[Outcome], None],
    ) -> None:
        self._pool = pool
        self._config = config
        self._settings = settings
        self._on_page = on_page
        self._outcome = Outcome()
        self._tasks: dict[str, _Task] = {}
        self._waiting = [
            (source, target_path(out, source, repeat), repeat)
            for source in sources
            for repeat in range(1, settings.repeats + 1)
        ][::-1]

    def run(self) -> Outcome:
        limit = self._config.max_num_seqs * self._config.max_workers * _AHEAD
        while self._waiting or self._tasks:
            while self._waiting and len(self._tasks) < limit:
                self._begin(*self._waiting.pop())
            for item in self._pool.poll(0.5):
                task = self._tasks.pop(item.group_id)
                if isinstance(item, GenerationFailure):
                    self._outcome.failed.append((task.source.page_id, item.reason))
                    self._on_page(self._outcome)
                else:
                    self._judge(task, item)
        return self._outcome

    def _begin(self, source: PageSource, target: str, repeat: int) -> None:
        if storage.exists(target):
            self._outcome.kept += 1
            return
        try:
            page = load_page(source, self._settings.longest_side)
        except BadPage as error:
            self._outcome.failed.append((source.page_id, str(error)))
            return
        self._submit(_Task(source, target, repeat, page))

    def _submit(self, task: _Task) -> None:
        settings = self._settings
        temperature = settings.temperatures[task.attempt]
        sampling = SamplingSpec(
            temperature=temperature or 1.0,
            top_p=settings.top_p,
            max_tokens=self._config.sampling.max_tokens,
            greedy=temperature == 0.0,
        )
        name = f"{task.source.page_id}#{task.repeat}"
        seed = zlib.crc32(f"{settings.seed}/{name}/{task.attempt}/{task.turned}".encode())
        group_id = f"{name}#{task.attempt}#{task.turned}"
        self._tasks[group_id] = task
        self._pool.submit(group_id, ray.put(task.page), sampling, (seed,))

    def _judge(self, task: _Task, completion: Completion) -> None:
        answer = read_answer(completion)
        if answer is not None:
            task.last_valid = completion.text
            if answer.is_rotation_valid or not self._settings.correct_rotation:
                self._write(task, completion.text)
                return
            turn = answer.rotation_correction
            task.turned = (task.turned + turn) % 360
            pixels = np.ascontiguousarray(np.rot90(task.page.image, k=turn // 90))
            task.page = replace(task.page, image=pixels)
        task.attempt += 1
        if task.attempt < len(self._settings.temperatures):
            self._submit(task)
            return
        if task.last_valid is None:
            self._outcome.invalid.append(task.source.page_id)
        self._write(task, task.last_valid or completion.text)

    def _write(self, task: _Task, text: str) -> None:
        storage.write_text(task.target, front_matter.strip(text))
        self._outcome.written += 1
        self._on_page(self._outcome)


def read_answer(completion: Completion) -> Any:
    """The answer as a PageResponse; None when it was cut or its front matter does not parse."""
    if completion.finish_reason != "stop":
        return None
    try:
        return front_matter.parse(completion.text)
    except (ValueError, TypeError):
        return None


def target_path(out: str, source: PageSource, repeat: int) -> str:
    """Where a transcription goes."""
    pdf = PurePosixPath(source.page_id.rpartition("::")[0])
    name = f"{pdf.stem}_pg{source.page_number}_repeat{repeat}.md"
    return storage.join(out, *pdf.parent.parts, name)
