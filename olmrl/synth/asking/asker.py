"""Questions to a vision model, each asked once: answers and costs in a journal, limits on both.

    asker.ask(question)     the parsed answer; from the journal if it was ever answered

The same is never asked twice, whatever the order of the pages, however often the command is killed.
"""

from __future__ import annotations

import argparse
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from olmrl.mix import prices, prompts
from olmrl.mix.api import Api, ApiError, json_of, polite_retries
from olmrl.mix.responses import BadAnswer, answer_text, is_unicode
from olmrl.synth.asking.dialect import Dialect
from olmrl.synth.asking.ledger import Ledger, given_up
from olmrl.synth.asking.question import NotNow, Question, Request, Unanswered
from olmrl.synth.asking.terms import Terms

_MOST_FAILURES = 5
"""Requests in a row that fail before the endpoint counts as down."""
_STOPS = (401, 403, 404)
"""Statuses that every other question would get too."""
_LEAST_FREE = 64 << 20
"""Bytes that must be free before money is spent on an answer that has to be written down."""
_WARMER = 0.2
"""By how much the temperature rises with each bad answer, from this value on."""


@dataclass
class Asker:
    """Asks one endpoint; used by many threads.

    Args:
        api: The endpoint.
        ledger: Answers and costs.
        terms: See there.
        folder: Where answers are written, which must not run out of space.
    """

    api: Api
    ledger: Ledger
    terms: Terms
    folder: str
    dialect: Dialect = field(default_factory=Dialect)
    _reserved: float = 0.0
    _failures: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def known(self, question: Question) -> Any:
        """The answer in the journal, or None.

        Raises:
            Unanswered: it was asked for as often as it may be.
        """
        key = question.key(self.terms.model)
        text = self.ledger.good.get(key)
        if text is not None:
            return question.parse(text)
        reason = given_up(self.ledger.bad.get(key, ()), self.terms.max_tokens)
        if reason:
            raise Unanswered(f"{question.stage}: {reason}")
        return None

    def ask(self, question: Question) -> Any:
        """The answer, from the journal or the endpoint.

        Raises:
            Unanswered: it was asked for as often as it may be.
            NotNow: the endpoint failed, or the money is spent.
            ValueError: no question can be answered there.
        """
        while (answer := self.known(question)) is None:
            cost = self.reserve(question)
            try:
                self._ask_once(question)
            finally:
                with self._lock:
                    self._reserved -= cost
        return answer

    def reserve(self, question: Question) -> float:
        """Set aside what a question may cost; the caller gives it back.

        Raises:
            NotNow: --max-usd does not allow it.
            ValueError: the disk is full.
        """
        if shutil.disk_usage(self.folder).free < _LEAST_FREE:
            raise ValueError(
                f"{self.folder}: less than {_LEAST_FREE >> 20} MB are free, so answers that cost "
                "money could not be written down; free space, then the same command goes on"
            )
        cost = self.terms.expected_usd(question.tokens)
        most = self.terms.max_usd
        with self._lock:
            if most is not None and self.ledger.usd + self._reserved + cost > most:
                raise NotNow(f"{question.stage}: not asked, --max-usd {most:g} is spent")
            self._reserved += cost
        return cost

    def release_all(self) -> None:
        """Nothing is being asked any more."""
        self._reserved = 0.0

    def request(self, question: Question) -> Request:
        """The next try at a question."""
        key = question.key(self.terms.model)
        name = f"{key}-{len(self.ledger.bad.get(key, ()))}-{self.terms.max_tokens}"
        return Request(name, key, question.stage, question.page, question.parse, question.tokens)

    def body(self, question: Question) -> dict[str, Any]:
        """The chat request."""
        bad = len(self.ledger.bad.get(question.key(self.terms.model), ()))
        options = argparse.Namespace(
            model=self.terms.model,
            temperature=round(_WARMER * (1 + bad), 1),
            max_tokens=self.terms.max_tokens,
        )
        text = question.template.fill(question.values)
        form = dict(question.response_format)
        return prompts.chat_body(options, text, question.pictures(), form)

    def _ask_once(self, question: Question) -> None:
        body, request = self.body(question), self.request(question)
        started = time.monotonic()
        retries = polite_retries(self.api.attempts, self.api.longest_wait_s)
        try:
            answer = retries(self._post, request, body)
        except ApiError as error:
            self._failed(request, error)
            return
        with self._lock:
            self._failures = 0
        self.settle(request, answer, time.monotonic() - started)

    def _post(self, request: Request, body: dict[str, Any]) -> dict[str, Any]:
        """Send a request; what may have cost money without an answer is written down as such."""
        headers = {"Idempotency-Key": request.id}
        while True:
            spoken = self.dialect.speak(body)
            try:
                response = self.api.once("POST", "chat/completions", json=spoken, headers=headers)
                return _completion(json_of(response))
            except ApiError as error:
                if error.status == 0 and not _is_down(error):
                    usd = self.terms.expected_usd(request.tokens)
                    told = {"outcome": "lost", "reason": str(error)}
                    self._write(request, told, {"cost_usd": usd, "lost": 1})
                with self._lock:
                    learnt = spoken != self.dialect.speak(body) or self.dialect.learn(error)
                if not learnt:
                    raise

    def _failed(self, request: Request, error: ApiError) -> None:
        place = "" if error.status == 0 else f"{self.api.http.base_url}: "
        broke = error.status == 429 and not error.transient
        if error.status in _STOPS or _is_down(error) or broke:
            raise ValueError(f"{place}{error}; the same command goes on from here") from error
        if is_refusal(error.code):
            self.refuse(request, str(error))
            return
        with self._lock:
            self._failures += 1
            failures = self._failures
        if failures >= _MOST_FAILURES:
            raise ValueError(
                f"{place}{failures} requests in a row failed, the last one with: {error}; the "
                "same command goes on from here"
            ) from error
        raise NotNow(f"{request.stage}: {error}") from error

    def refuse(self, request: Request, reason: str) -> None:
        """Write down that the endpoint will not answer this very question."""
        self._write(request, {"outcome": "refused", "reason": reason}, {})

    def settle(self, request: Request, answer: dict[str, Any], seconds: float) -> None:
        """Judge an answer and write it down with what it cost."""
        model = str(answer.get("model") or "")[:200]
        facts = self._cost(request, answer.get("usage"), model)
        facts["seconds"] = round(seconds, 3)
        told: dict[str, Any] = {"model": model}
        try:
            text = answer_text(answer)
            if not is_unicode(text):
                raise BadAnswer("malformed", "not valid Unicode (a lone surrogate)")
            request.parse(text)
            told |= {"outcome": "good", "text": text}
        except BadAnswer as bad:
            told |= {"outcome": bad.kind, "reason": bad.reason, "max_tokens": self.terms.max_tokens}
        self._write(request, told, facts)

    def _cost(self, request: Request, usage: Any, model: str) -> dict[str, float]:
        """Tokens and dollars; of two models that may have answered, the dearer one is counted.

        An endpoint that does not say how many tokens it took is counted with the expected ones.
        """
        if not isinstance(usage, dict):
            asked, said = request.tokens
            usage = {"prompt_tokens": asked, "completion_tokens": said}
        names = {self.terms.model, model}
        known = [prices.facts(usage, m, self.terms.price, self.terms.share) for m in names]
        return max(known, key=lambda facts: facts.get("cost_usd", 0.0))

    def _write(self, request: Request, told: Mapping[str, Any], facts: Mapping[str, float]) -> None:
        names = ("id", "key", "stage", "page")
        base = {name: getattr(request, name) for name in names}
        self.ledger.add({**base, **told, "facts": dict(facts)})


def is_refusal(code: str) -> bool:
    """Whether an API's error code is about what was asked, and not about how or when."""
    return code.startswith("content_")


def _is_down(error: ApiError) -> bool:
    """Whether nothing was sent, as nobody listens there."""
    return isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout)


def _completion(body: dict[str, Any]) -> dict[str, Any]:
    """An answer that is not an error in disguise.

    Raises:
        ApiError: status 200, but the body is an error.
    """
    error = body.get("error")
    if error and not body.get("choices"):
        told = error if isinstance(error, dict) else {"message": error}
        code, message = str(told.get("code") or ""), str(told.get("message") or told)[:300]
        raise ApiError(502, code, f"an error with status 200: {message}")
    return body
