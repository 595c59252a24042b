"""Human transcripts + page images -> clean page pairs through the chat API.

Takes page pairs (front matter or raw transcripts) and writes to OUTPUT the cleaned markdown, links
to the PDF and to the original (.md.orig), and a .json with confidence, corrections and cost. A page
that is already there is never requested again. --base-url takes any OpenAI-compatible server.
"""

# See docs/formats.md#cleaning-transcripts

from __future__ import annotations

import argparse
import hashlib
import json
import random
import threading
from itertools import islice
from typing import Any

from olmrl import storage
from olmrl.arguments import positive, real
from olmrl.markup import front_matter
from olmrl.markup.front_matter import PageResponse
from olmrl.mix import files, pairs, prices, prompts
from olmrl.mix.api import Api, ApiError, add_api_arguments, key_from_environment
from olmrl.mix.pdf import PageImage
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.responses import BadAnswer, answer_object, from_answer
from olmrl.mix.run import Outcome, Run, Skip, add_run_arguments, process, reading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("input", help="folder of page pairs (loc's or nara's output)")
    parser.add_argument("output", help="folder for the cleaned pairs")
    parser.add_argument("--model", default="gpt-4o-2024-08-06", help="default %(default)s")
    parser.add_argument("--seed", type=int, help="clean in a shuffled order (default: sorted)")
    parser.add_argument("--max-documents", type=positive, help="use at most this many pairs")
    parser.add_argument("--side", type=positive, default=2048, help="pixels of the longer side")
    parser.add_argument("--temperature", type=real(0), default=0.2)
    parser.add_argument("--max-tokens", type=positive, default=16384)
    parser.add_argument("--max-usd", type=real(0), help="stop once this much has been spent")
    add_api_arguments(parser)
    add_run_arguments(parser, workers=10)


def run(options: argparse.Namespace) -> int:
    """Clean the pairs; see the module."""
    key = key_from_environment(options.api_key_env)
    price = prices.parse(options.price) if options.price else None
    settings = {
        "prompt": prompts.CLEAN_VERSION,
        "prompt_sha256": prompts.digest(prompts.CLEAN_PROMPT),
        **{k: getattr(options, k) for k in ("input", "model", "side", "temperature", "max_tokens")},
    }
    folder = pairs.scan(options.input, with_pdf=True)
    found = list(folder.pairs)
    if options.seed is not None:
        random.Random(options.seed).shuffle(found)
    found = list(islice(found, options.max_documents))
    with (
        Run("clean", options.output, settings, state=options.state, total=len(found)) as verb,
        PdfPool(min(options.workers, 4)) as pool,
        Api(options.base_url, key, attempts=options.tries) as api,
    ):
        verb.tell_beside(len(folder.pairs), folder.beside)
        cleaner = Cleaner(options, verb, pool, api, price)
        process(verb, ((p.id, p) for p in found), cleaner.work, workers=options.workers)
    return verb.end(options.input, "page pair (*.md, *.pdf)")


class Cleaner:
    """Cleans single pairs; used by many threads.

    Args:
        options: The verb's options.
        verb: Its journal says what has been spent.
        pool: Renders pages.
        api: The chat server.
        price: The user's price, or None for the list price.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        verb: Run,
        pool: PdfPool,
        api: Api,
        price: prices.Price | None,
    ) -> None:
        self.options = options
        self.verb = verb
        self.pool = pool
        self.api = api
        self.price = price
        self.paid = float(verb.facts["cost_usd"])
        """Dollars spent so far, for --max-usd; pages in flight are not included."""
        self.lock = threading.Lock()

    def work(self, pair: pairs.Pair) -> Outcome:
        """Clean one pair."""
        base = files.join_found(self.options.output, pair.id)
        if storage.exists(base + ".md") and storage.exists(base + ".json"):
            return Outcome(facts=json.loads(storage.read_text(base + ".json"))["facts"])
        spent = self.spent(pair.id)
        limit = self.options.max_usd
        if limit is not None and self.paid >= limit:
            return Outcome("failed", f"not asked: --max-usd {limit:g} is spent", spent)
        body = self.request(pair)
        identity = json.dumps([body, spent.get("bad_answers", 0)]).encode("utf-8")
        digest = hashlib.sha256(identity).hexdigest()
        try:
            answer = self.api.chat(body, idempotency_key=digest)
        except ApiError as error:
            if error.status in (401, 403, 404) or (error.status == 429 and not error.transient):
                raise ValueError(f"{self.options.base_url}: {error}") from error
            return Outcome("failed", str(error), spent)
        model = str(answer.get("model", self.options.model))
        price = prices.facts(answer.get("usage"), model, self.price, 1.0)
        with self.lock:
            self.paid += price.get("cost_usd", 0.0)
        facts = added(spent, price)
        try:
            value = answer_object(answer)
            response = cleaned(value)
        except BadAnswer as bad:
            return Outcome("failed", str(bad), added(facts, {"bad_answers": 1}))
        self.write(pair, base, response, value, facts)
        return Outcome(facts={"pages": 1, "blank": int(response.natural_text is None), **facts})

    def spent(self, key: str) -> dict[str, float]:
        """The cost of earlier unusable answers about a page, which stays in the totals."""
        earlier = self.verb.problems.get(key)
        return dict(earlier[2]) if earlier else {}

    def request(self, pair: pairs.Pair) -> dict[str, Any]:
        """The chat request of a pair.

        Raises:
            Skip: a markdown file that is not text.
            Fail: it cannot be read now.
            BadPage: no usable PDF.
        """
        image: PageImage = self.pool.call("single_page_image", pair.pdf, self.options.side)
        try:
            with reading():
                transcript = front_matter.strip(storage.read_document(pair.md))
        except ValueError as error:
            raise Skip(str(error)) from error
        text = prompts.CLEAN_PROMPT.replace("{transcription}", transcript)
        return prompts.chat_body(self.options, text, [image.data], prompts.clean_schema())

    def write(
        self,
        pair: pairs.Pair,
        base: str,
        response: PageResponse,
        value: dict[str, Any],
        facts: dict[str, float],
    ) -> None:
        """Write all files of a cleaned page, the .json first because it records the cost."""
        report = {
            "id": pair.id,
            "confidence_score": value["confidence_score"],
            "corrections_made": value["corrections_made"],
            "model": self.options.model,
            "prompt": prompts.CLEAN_VERSION,
            "facts": {"pages": 1, "blank": int(response.natural_text is None), **facts},
        }
        files.write_json(base + ".json", report, durable=True)
        files.place(pair.md, base + ".md.orig")
        files.place(pair.pdf, base + ".pdf")
        files.write_text(base + ".md", front_matter.format(response), durable=True)


def cleaned(value: dict[str, Any]) -> PageResponse:
    """The typed record in a cleaning answer.

    Raises:
        BadAnswer: a field is missing, of the wrong type, or contradicts another.
    """
    blank, text = value.get("is_page_all_blank"), value.get("cleaned_text")
    confidence, corrections = value.get("confidence_score"), value.get("corrections_made")
    if not isinstance(blank, bool) or not isinstance(text, str):
        raise BadAnswer("malformed", "is_page_all_blank or cleaned_text is missing")
    if blank != (not text.strip()):
        raise BadAnswer("malformed", "is_page_all_blank contradicts cleaned_text")
    if type(confidence) not in (int, float) or not 0 <= float(str(confidence)) <= 1:
        raise BadAnswer("malformed", f"confidence_score is {confidence!r}, must be in 0..1")
    if not isinstance(corrections, list) or not all(isinstance(c, str) for c in corrections):
        raise BadAnswer("malformed", "corrections_made is not a list of texts")
    return from_answer({**value, "natural_text": text}, "clockwise")


def added(first: dict[str, float], second: dict[str, float]) -> dict[str, float]:
    """The two sets of numbers added up, key by key."""
    keys = sorted(first.keys() | second.keys())
    return {key: first.get(key, 0) + second.get(key, 0) for key in keys}
