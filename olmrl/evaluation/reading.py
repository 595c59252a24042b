"""Pages read by a model: attempts, rotation and failures, whatever generates the text.

    page --ask--> Generator --Completion | GenerationFailure--> take --> PageReading

`olmrl read` and `bench run`, held-out evaluation, SFT's evaluation and the parity check all read
pages through this, with different generators: the engines of a run, one engine, the policy in this
process, or a server elsewhere.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from olmrl.markup import front_matter
from olmrl.markup.front_matter import PageResponse
from olmrl.rollout.requests import GenerationFailure
from olmrl.types import Completion, SamplingSpec

_POLL_S = 0.5
_PAGES_AT_A_TIME = 8
"""Pages handed out between two looks at what came back."""


class Answer(Protocol):
    """What a generator says of a page; `types.Completion` is one."""

    @property
    def group_id(self) -> str:
        """The name it was asked for under."""

    @property
    def text(self) -> str:
        """The transcription, with its front matter."""

    @property
    def finish_reason(self) -> str:
        """`stop` for an answer that ended by itself."""


Said = TypeVar("Said", bound=Answer)
Told = TypeVar("Told", bound=Answer, covariant=True)


class Generator(Protocol[Told]):
    """What makes answers to pages; `rollout.pool.RolloutPool` is one."""

    def submit(
        self, group_id: str, page: Any, sampling: SamplingSpec, seeds: tuple[int, ...]
    ) -> None:
        """Ask for a completion; `page` is whatever this generator takes as a page."""

    def poll(self, timeout_s: float) -> Sequence[Told | GenerationFailure]:
        """Those finished since the last call; waits up to `timeout_s` for the first."""


@dataclass(frozen=True, slots=True)
class ReadingSpec:
    """How a page is read."""

    max_tokens: int
    """Most tokens of a transcription, the end token included."""
    temperatures: tuple[float, ...] = (0.0,)
    """One per attempt; 0 is greedy. Attempts end with the first whole answer."""
    top_p: float = 1.0
    seed: int = 0

    def sampling(self, attempt: int) -> SamplingSpec:
        """How the text of an attempt is drawn."""
        temperature = self.temperatures[attempt]
        greedy = temperature == 0.0
        return SamplingSpec(temperature or 1.0, self.top_p, self.max_tokens, greedy=greedy)


@dataclass(frozen=True)  # without slots, which frozen generics cannot have (Python 3.11)
class Reading(Generic[Said]):
    """The outcome of reading a page."""

    name: str
    """The name it was asked for under."""
    completion: Said | None
    """The last whole answer, or else the last attempt. None: an engine gave up."""
    failure: str = ""
    """Why an engine gave up."""
    attempts: int = 1
    turned: int = 0
    """Degrees counter-clockwise by which the page was turned for this answer."""


PageReading: TypeAlias = Reading[Completion]


@dataclass(slots=True)
class _Open(Generic[Said]):
    """A page that is being read."""

    name: str
    page: Any
    attempt: int = 0
    turned: int = 0
    """Degrees counter-clockwise by which the page has been turned."""
    whole: Said | None = None
    """The last whole answer."""
    whole_turned: int = 0
    """How the page was turned for it."""


class Reader(Generic[Said]):
    """Reads pages as the generator's answers come in.

    Args:
        generator: Makes the completions.
        spec: How pages are read.
        prefix: Of the group ids of its pages, to tell them from others of the generator.
        turn: Turns a page counter-clockwise by so many degrees (90, 180, 270): a page that the
            answer calls rotated is turned and read again. None: ignore what answers say about
            rotation.
    """

    def __init__(
        self,
        generator: Generator[Said],
        spec: ReadingSpec,
        *,
        prefix: str = "",
        turn: Callable[[Any, int], Any] | None = None,
    ) -> None:
        self._generator = generator
        self._spec = spec
        self._prefix = prefix
        self._turn = turn
        self._open: dict[str, _Open[Said]] = {}

    def __len__(self) -> int:
        """Number of pages not read yet."""
        return len(self._open)

    @property
    def group_ids(self) -> list[str]:
        """Ids of the groups that the generator is working on."""
        return list(self._open)

    def ask(self, name: str, page: Any) -> None:
        """Have a page read.

        Args:
            name: Unique among its pages; seeds the sampling.
            page: As the generator takes it.
        """
        self._submit(_Open(name, page))

    def take(self, item: Said | GenerationFailure) -> Reading[Said] | None:
        """Take an item from the generator; returns the page's reading once it is settled.

        Also None for a group that this reader did not ask for.
        """
        page = self._open.pop(item.group_id, None)
        if page is None:
            return None
        if isinstance(item, GenerationFailure):
            return Reading(page.name, None, item.reason, page.attempt + 1, page.turned)
        if self._is_settled(page, item):
            answer, turned = (item, page.turned)
            if page.whole is not None:
                answer, turned = page.whole, page.whole_turned
            return Reading(page.name, answer, "", page.attempt + 1, turned)
        page.attempt += 1
        self._submit(page)
        return None

    def _is_settled(self, page: _Open[Said], completion: Said) -> bool:
        """Whether the page needs no further attempt; turns it for the next one if need be."""
        if len(self._spec.temperatures) == 1:
            return True  # whole or not, there is no other attempt
        answer = whole_answer(completion)
        is_last = page.attempt + 1 == len(self._spec.temperatures)
        if answer is None:
            return is_last
        page.whole, page.whole_turned = completion, page.turned
        if is_last or self._turn is None or answer.is_rotation_valid:
            return True
        page.turned = (page.turned + answer.rotation_correction) % 360
        page.page = self._turn(page.page, answer.rotation_correction)
        return False

    def _submit(self, page: _Open[Said]) -> None:
        group_id = f"{self._prefix}{page.name}#{page.attempt}#{page.turned}"
        text = f"{self._spec.seed}/{page.name}/{page.attempt}/{page.turned}"
        self._open[group_id] = page
        sampling = self._spec.sampling(page.attempt)
        self._generator.submit(group_id, page.page, sampling, (zlib.crc32(text.encode()),))


PageReader: TypeAlias = Reader[Completion]


def read_pages(
    generator: Generator[Said],
    pages: Iterable[tuple[str, Any]],
    spec: ReadingSpec,
    *,
    at_once: int | None = None,
    turn: Callable[[Any, int], Any] | None = None,
) -> Iterator[Reading[Said]]:
    """Read pages; yields them as they are settled.

    Args:
        generator: Makes the completions.
        pages: (name, page as the generator takes it), taken when there is room.
        spec: How they are read.
        at_once: Pages in flight at a time; None: all.
        turn: As for `Reader`.
    """
    reader = Reader(generator, spec, turn=turn)
    waiting = iter(pages)
    more = True
    while True:
        room = None if at_once is None else min(at_once - len(reader), _PAGES_AT_A_TIME)
        taken = 0
        for name, page in itertools.islice(waiting, room):
            reader.ask(name, page)
            taken += 1
        more = more and room is not None and (taken == room)
        if not len(reader):
            return
        has_room = more and at_once is not None and len(reader) < at_once
        for item in generator.poll(0.0 if has_room else _POLL_S):
            reading = reader.take(item)
            if reading is not None:
                yield reading


def whole_answer(completion: Answer) -> PageResponse | None:
    """The answer; None if it was cut off or its front matter does not parse."""
    if completion.finish_reason != "stop":
        return None
    try:
        return front_matter.parse(completion.text)
    except (ValueError, TypeError):
        return None
