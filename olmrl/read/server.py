"""Pages read by any OpenAI-compatible server; nothing here needs Ray or a GPU."""

from __future__ import annotations

import base64
import io
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from olmrl.data.prompts import Order, load_prompt
from olmrl.data.render import BadPage
from olmrl.mix.api import Api, ApiError
from olmrl.mix.pdf_child import Call, PdfPool, outcome_of
from olmrl.mix.run import in_order
from olmrl.read.backend import Item, Usage
from olmrl.read.output import sound
from olmrl.rollout.requests import GenerationFailure
from olmrl.types import SamplingSpec

_MOST_CHILDREN = 8
"""Processes that draw pages; each draws some ten a second."""
_STOPS = (401, 403, 404)
"""Statuses that every other page would get too."""


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """Where pages are sent, and what goes with them."""

    model: str
    """Name under which the server knows the model."""
    prompt: str
    """Prompt name (`data.prompts.load_prompt`)."""
    longest_side: int
    """Pixels of the longer side."""
    max_total_tokens: int
    """Longer answers, prompt included, do not count as whole."""
    order: Order = "text_first"
    chat: Mapping[str, Any] | None = None
    """Arguments of the chat template, which vLLM takes."""
    concurrency: int = 32
    """Requests at a time."""


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """A chat completion."""

    group_id: str
    text: str
    finish_reason: str
    prompt_tokens: int
    tokens: int


class ServerBackend:
    """A server behind an API key.

    Args:
        api: the server.
        spec: what it is asked.
    """

    def __init__(self, api: Api, spec: ServerSpec) -> None:
        self.generator = self
        self.at_once = 2 * spec.concurrency
        self._api = api
        self._spec = spec
        self._prompt = load_prompt(spec.prompt)
        self._closed = False
        self._done: queue.SimpleQueue[ServerAnswer | GenerationFailure | BaseException] = (
            queue.SimpleQueue()
        )
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        for _ in range(spec.concurrency):
            # Daemons, unlike those of an executor: Ctrl-C need not wait for a slow server.
            threading.Thread(target=self._work, daemon=True).start()
        self._children = min(_MOST_CHILDREN, os.cpu_count() or 1)
        self._pdfs = PdfPool(self._children)

    def __enter__(self) -> ServerBackend:
        return self

    def __exit__(self, *error: object) -> None:
        self._closed = True
        self._pdfs.close()

    def count(self, paths: Sequence[str]) -> Iterator[int | BadPage]:
        """Number of pages of each PDF, in order."""
        return self._map(Call("count_pages", path) for path in paths)

    def pages(self, items: Sequence[Item]) -> Iterator[tuple[str, Any]]:
        """(name, PNG), or a `BadPage`."""
        calls = (
            Call("page_image", i.source.pdf_path, (i.source.page_number, self._spec.longest_side))
            for i in items
        )
        for item, made in zip(items, self._map(calls), strict=True):
            yield item.name, made if isinstance(made, BadPage) else made.data

    def _map(self, calls: Iterator[Call]) -> Iterator[Any]:
        return in_order(lambda call: outcome_of(self._pdfs, call), calls, workers=self._children)

    def turn(self, page: bytes, degrees: int) -> bytes:
        """The PNG turned counter-clockwise."""
        pixels = np.rot90(np.asarray(Image.open(io.BytesIO(page))), k=degrees // 90)
        out = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(out, "PNG", compress_level=3)
        return out.getvalue()

    def usage(self, answer: ServerAnswer) -> Usage:
        """Tokens of an answer, as the server counts them."""
        return Usage(answer.prompt_tokens, answer.tokens)

    def submit(
        self, group_id: str, page: bytes, sampling: SamplingSpec, seeds: tuple[int, ...]
    ) -> None:
        """Send a page."""
        self._waiting.put(partial(self._ask, group_id, page, sampling, seeds[0]))

    def poll(self, timeout_s: float) -> list[ServerAnswer | GenerationFailure]:
        """What has come back; waits up to `timeout_s` for the first.

        Raises:
            ValueError: no page can be read there (no such server, key or model).
        """
        found: list[ServerAnswer | GenerationFailure] = []
        try:
            item = self._done.get(timeout=timeout_s) if timeout_s else self._done.get_nowait()
            while True:
                if isinstance(item, BaseException):
                    raise item
                found.append(item)
                item = self._done.get_nowait()
        except queue.Empty:
            return found

    def _work(self) -> None:
        while True:
            ask = self._waiting.get()
            if self._closed:
                return
            ask()

    def _ask(self, group_id: str, page: bytes, sampling: SamplingSpec, seed: int) -> None:
        """Runs in a thread; leaves the outcome in the queue, whatever it is."""
        try:
            answer = self._api.chat(self._body(page, sampling, seed), idempotency_key=group_id)
            self._done.put(self._answer(group_id, answer))
        except ApiError as error:
            if error.status in _STOPS or not (error.transient or error.status):
                self._done.put(ValueError(f"--base-url {self._api.http.base_url}: {error}"))
            elif error.status == 0:
                self._done.put(ValueError(f"--base-url: {error}; the same call goes on from here"))
            else:
                self._done.put(GenerationFailure(group_id, str(error)))
        except Exception as error:  # else the page would be waited for without end
            self._done.put(error)

    def _body(self, page: bytes, sampling: SamplingSpec, seed: int) -> dict[str, Any]:
        url = "data:image/png;base64," + base64.b64encode(page).decode("ascii")
        content: list[dict[str, Any]] = [
            {"type": "text", "text": self._prompt},
            {"type": "image_url", "image_url": {"url": url}},
        ]
        if self._spec.order == "image_first":
            content.reverse()
        extra = {"chat_template_kwargs": dict(self._spec.chat)} if self._spec.chat else {}
        return {
            "model": self._spec.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0.0 if sampling.greedy else sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": seed,
            **extra,
        }

    def _answer(self, group_id: str, answer: dict[str, Any]) -> ServerAnswer | GenerationFailure:
        try:
            choice = answer["choices"][0]
            text, reason = choice["message"]["content"] or "", choice["finish_reason"]
        except (KeyError, IndexError, TypeError):
            return GenerationFailure(group_id, "the server's answer is not a chat completion")
        usage = answer.get("usage") or {}
        asked, said = (int(usage.get(f"{k}_tokens") or 0) for k in ("prompt", "completion"))
        if asked + said > self._spec.max_total_tokens:
            reason = "length"
        return ServerAnswer(group_id, sound(str(text)), str(reason), asked, said)
