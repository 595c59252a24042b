"""From what was read of a page to its text: whole answers, stand-ins for others, failures. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from olmrl.data.render import BadPage, UnreadPage
from olmrl.evaluation.reading import Reading, whole_answer
from olmrl.markup.front_matter import PageResponse
from olmrl.read.backend import Usage
from olmrl.read.output import Kind, PageText


def settle(
    number: int,
    outcome: Reading[Any] | BadPage,
    usage: Callable[[Any], Usage],
    stand_in: Callable[[str], str | None],
) -> PageText:
    """What becomes of a page.

    Args:
        number: of the page, from 1.
        outcome: what was read, or why the page cannot be.
        usage: tokens of an answer.
        stand_in: the text of a page without a whole answer, from its last answer.
    """
    if isinstance(outcome, BadPage):
        kind: Kind = "failed" if isinstance(outcome, UnreadPage) else "bad"
        return PageText(number, kind, reason=outcome.reason)
    answer = outcome.completion
    if answer is None:
        return PageText(number, "failed", reason=outcome.failure, attempts=outcome.attempts)
    spent = usage(answer)
    figures = (outcome.attempts, spent.prompt, spent.completion)
    response = whole_answer(answer)
    if response is None:
        text = stand_in(answer.text)
        nothing = PageResponse(None, True, 0, False, False, (text or "").strip() or None)
        return PageText(number, "fallback", nothing, _why(answer), *figures)
    return PageText(number, "read", as_it_lies(response, outcome.turned), "", *figures)


def _why(answer: Any) -> str:
    if answer.finish_reason != "stop":
        return f"no whole answer: the last one ended by {answer.finish_reason}"
    return "no whole answer: the last one has no valid front matter"


def as_it_lies(response: PageResponse, turned: int) -> PageResponse:
    """The response about the page in the PDF, from one about the page as it was turned.

    Args:
        response: about the turned page.
        turned: degrees counter-clockwise by which it was turned.
    """
    more = 0 if response.is_rotation_valid else response.rotation_correction
    correction = (turned + more) % 360
    upright = correction == 0 and (response.is_rotation_valid or bool(turned))
    return PageResponse(
        response.primary_language,
        upright,
        correction,
        response.is_table,
        response.is_diagram,
        response.natural_text,
    )
