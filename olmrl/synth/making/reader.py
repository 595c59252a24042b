"""A second reader: another model transcribes the finished pages, and must pass most of their tests.

A test that everybody fails is wrong, or its page cannot be read. So a page is kept if the reader
passes enough of its tests; the tests that it fails all the same are listed, and with `strict`
dropped. The share that it fails is the page's difficulty.

Answers lie in a journal (`asking`), known by model, prompt and the page's pixels: the same page is
never asked about twice. A turned page is not asked about; it shares the fate of the upright one.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from olmrl.bench import load_case
from olmrl.data.prompts import load_prompt
from olmrl.data.render import render_page
from olmrl.markup import front_matter
from olmrl.mix.api import Api, key_for
from olmrl.mix.files import slug
from olmrl.mix.run import in_order
from olmrl.synth.asking.asker import Asker
from olmrl.synth.asking.dialect import Dialect
from olmrl.synth.asking.ledger import Ledger
from olmrl.synth.asking.question import NotNow, Question, Unanswered
from olmrl.synth.asking.template import Template
from olmrl.synth.asking.terms import Terms
from olmrl.synth.derived.bench_rows import PageRows, pdf_of
from olmrl.synth.making.extras import Reader

_TOKENS = (2500, 1500)
"""Of a request and its answer, for limits on money."""
_FENCE = re.compile(r"\A```\w*[ \t]*\n(.*?)\n?```\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Verdict:
    """What the reader made of a page."""

    refused: str = ""
    """Why the page is dropped; empty: it is kept."""
    passed: int = 0
    tests: int = 0
    failed: tuple[str, ...] = ()
    """Ids of tests."""
    told: Mapping[str, Any] | None = None
    """Model, tokens, cost and seconds."""

    @property
    def row(self) -> dict[str, Any]:
        """Its part of the manifest."""
        if self.told is None:
            return {}
        row: dict[str, Any] = {"reader": {**self.told, "failed": list(self.failed)}}
        if self.tests:
            share = self.passed / self.tests
            row |= {"pass_rate": round(share, 4), "difficulty": round(1 - share, 4)}
        return row

    @property
    def sentence(self) -> str:
        """For the sheet."""
        return f"passes {self.passed} of {self.tests} tests" if self.tests else self.refused


def read_pages(
    folder: Path, pages: Sequence[PageRows], reader: Reader, answers: Path
) -> dict[str, Verdict]:
    """Have pages of a bench folder read, and judge the reader by their tests.

    Args:
        folder: The bench folder.
        pages: Those to read.
        reader: Who reads, and on what terms.
        answers: Where answers are kept, in a folder for each reader.

    Returns:
        By name of the page.

    Raises:
        ValueError: the endpoint cannot answer, or its prices are needed and not known.
    """
    terms = Terms(reader.model, reader.price, reader.max_usd, reader.max_tokens)
    if reader.max_usd is not None and terms.known_price is None:
        raise ValueError(
            f"--reader-max-usd {reader.max_usd:g}: the price of {reader.model} is not known here; "
            "give it with --reader-price IN,OUT (dollars per million tokens)"
        )
    prompt = load_prompt(reader.prompt)
    digest = hashlib.sha256(prompt.encode("utf-8")).hexdigest()[:16]
    template = Template(prompt, reader.prompt, digest)
    key = key_for(reader.base_url, reader.key_env)
    own = str(answers / f"{slug(reader.model)}-{digest}")
    with Ledger(own) as ledger, Api(reader.base_url, key, attempts=reader.tries) as api:
        asker = Asker(api, ledger, terms, own, Dialect(format="text"))
        desk = _Desk(folder, reader, asker, template)
        return dict(in_order(desk.judge, pages, workers=reader.concurrency))


@dataclass(frozen=True)
class _Desk:
    folder: Path
    reader: Reader
    asker: Asker
    template: Template

    def judge(self, page: PageRows) -> tuple[str, Verdict]:
        """One page; runs in a thread."""
        try:
            text = self.asker.ask(self.question(page))
        except (Unanswered, NotNow) as error:
            return page.name, Verdict(f"the second reader did not read it ({error})", told={})
        ledger = self.asker.ledger
        told = {
            "model": self.reader.model,
            "answered_as": dict(ledger.models_of[page.name]),
            **{name: round(value, 6) for name, value in sorted(ledger.by_page[page.name].items())},
        }
        return page.name, judged(text, [row for _, row in page.tests], self.reader.share, told)

    def question(self, page: PageRows) -> Question:
        """Transcribe this page."""
        pixels = render_page(str(pdf_of(self.folder, page)), 1, self.reader.side)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG", compress_level=3)
        return Question(
            stage="reader",
            page=page.name,
            template=self.template,
            content={"pixels": hashlib.sha256(pixels.tobytes()).hexdigest()},
            values={},
            pictures=lambda: [out.getvalue()],
            response_format={"type": "text"},
            parse=transcription,
            tokens=_TOKENS,
        )


def transcription(answer: str) -> str:
    """The text of an answer, without the fence and front matter that models put around it."""
    fenced = _FENCE.match(answer.strip())
    return front_matter.strip(fenced[1] if fenced else answer).strip()


def judged(
    text: str, tests: Sequence[Mapping[str, Any]], share: float, told: Mapping[str, Any]
) -> Verdict:
    """What a transcription makes of a page's tests; `baseline` counts as any other."""
    failed = tuple(str(row["id"]) for row in tests if not load_case(row).run(text).passed)
    passed = len(tests) - len(failed)
    refused = ""
    if passed < share * len(tests):
        refused = f"the second reader passes {passed} of {len(tests)} tests, fewer than {share:.0%}"
    return Verdict(refused, passed, len(tests), failed, told)
