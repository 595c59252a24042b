"""Real PDFs to faithful synthetic pages with certain truth and proven unit tests.

    SOURCE -> pages -> orientation -> layout -> HTML -> print -> refined HTML -> print -> OUT

    OUT/bench, OUT/pairs, OUT/sheet   as `from_html` writes them
    OUT/manifest.jsonl   source, page, model, templates, cost, time and likeness of each page
    OUT/report.json      what was made, and why the rest was not
    OUT/work             sources, answers (journal.jsonl), prints: a call that was killed goes on

A vision model behind any OpenAI-compatible endpoint writes each page as HTML. Its answer is hostile
until proven otherwise (`model_html`, `web.browser`, `proof`); each is paid for once (`asking`).
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from olmrl import storage
from olmrl.data.bad_page import BadPage
from olmrl.mix import files
from olmrl.mix.api import Api
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.prices import BATCH_SHARE, Price
from olmrl.mix.progress import ProgressDisplay
from olmrl.mix.run import in_order
from olmrl.mix.sheet import SheetPage
from olmrl.synth.asking.asker import Asker, Ledger, NotNow, Question, Terms, Unanswered
from olmrl.synth.asking.batches import BatchAsker
from olmrl.synth.making.claim import claim
from olmrl.synth.making.extras import Extras
from olmrl.synth.making.finish import Finish
from olmrl.synth.making.proven import write_proven
from olmrl.synth.pdfs.model_html import read_model_html, truth_html
from olmrl.synth.pdfs.source_pages import Choice, Chosen, choose_pages, told
from olmrl.synth.pdfs.stages import STAGES, expected_tokens
from olmrl.synth.pdfs.template_files import Template, load_templates
from olmrl.synth.pdfs.typo_pages import printed_html, typo_pages
from olmrl.synth.pdfs.writing import (
    Dropped,
    Made,
    Need,
    SourcePage,
    Studio,
    print_model_page,
    write_page,
)
from olmrl.synth.proof.html_truth import read_html
from olmrl.synth.web.browser import Browser
from olmrl.synth.web.browser_pool import BrowserPool

_MADE_BY = 2
"""Rises when pages that were made before have to be made anew."""


@dataclass(frozen=True)
class Settings:
    """What decides the pages, and what they may cost."""

    model: str
    """Name under which the endpoint knows the model."""
    templates: str | None = None
    """Folder of the user's templates; None: olmrl's own."""
    side: int = 1024
    """Pixels of the longer side of the pictures that are sent."""
    densify: bool = False
    """Ask for twice the text."""
    most_tests: int = 40
    """Most tests of a page."""
    price: Price | None = None
    """Of the user, or None for the list price."""
    max_usd: float | None = None
    """Dollars after which nothing more is asked."""
    max_tokens: int = 16_384
    """Most tokens of an answer."""
    choice: Choice = field(default_factory=Choice)
    extras: Extras = field(default_factory=Extras)


@dataclass(frozen=True)
class Endpoint:
    """Where questions go."""

    base_url: str
    key: str
    batch: bool = False
    """Through the Batch API."""
    concurrency: int = 8
    """Pages in work at a time; not for batches."""
    tries: int = 6
    """Of each HTTP request."""
    timeout_s: float = 300.0
    """Seconds without a byte after which a request is given up."""
    poll_s: float = 30.0
    """Between looks at a batch."""


@dataclass(frozen=True)
class Estimate:
    """What a run will take, if nothing is asked twice."""

    pages: int
    calls: int
    tokens_in: int
    tokens_out: int
    usd: float | None
    """None: nobody knows the price."""

    def __str__(self) -> str:
        cost = "an unknown cost (give --price IN,OUT)" if self.usd is None else f"${self.usd:.2f}"
        return (
            f"estimate: {self.pages} pages, {self.calls} calls, {self.tokens_in:,} tokens in, "
            f"{self.tokens_out:,} out: {cost}"
        )


def estimate(
    pages: int, settings: Settings, templates: Mapping[str, Template], share: float
) -> Estimate:
    """What so many pages will take; answers of an earlier call cost nothing again."""
    terms = _terms(settings, share)
    stages = (*STAGES, "densify") if settings.densify else STAGES
    tokens = [expected_tokens(stage, templates[stage], settings.side) for stage in stages]
    asked, said = (pages * sum(column) for column in zip(*tokens, strict=True))
    usd = terms.expected_usd((asked, said)) if terms.known_price else None
    return Estimate(pages, pages * len(stages), asked, said, usd)


def dry_run(
    source: str, out: str, settings: Settings, batch: bool, folder: str, workers: int
) -> str:
    """Choose pages (into a folder that is thrown away) and say what they would cost."""
    templates = load_templates(settings.templates)
    _terms(settings, BATCH_SHARE if batch else 1.0)
    chosen = choose_pages(source, folder, settings.choice, workers, out)
    share = BATCH_SHARE if batch else 1.0
    lines = [str(estimate(len(chosen.pages), settings, templates, share))]
    lines += _left_lines(chosen)
    return "\n".join(lines)


def _left_lines(chosen: Chosen) -> list[str]:
    left: Any = told(chosen)["left_out"]
    return [
        f"  {chosen.documents} PDFs, {len(chosen.pages)} pages chosen",
        *(f"  left out: {count} x {what}" for what, count in list(left.items())[:8]),
    ]


def from_pdfs(
    source: str, out: str, settings: Settings, endpoint: Endpoint, workers: int
) -> dict[str, Any]:
    """Make the folders; see the module.

    Args:
        source: PDF, folder, glob or list of PDFs, local or remote.
        out: Folder to write, local.
        settings: What decides the pages.
        endpoint: Where questions go.
        workers: Processes, each with a browser of its own.

    Returns:
        The report, as written to report.json.

    Raises:
        ValueError: no PDF, no browser, bad templates, an endpoint that cannot answer, or no page.
    """
    if storage.is_remote(out):
        raise ValueError(f"{out}: pages are made in a local folder; copy it afterwards")
    templates = load_templates(settings.templates)
    share = BATCH_SHARE if endpoint.batch else 1.0
    terms = _terms(settings, share)
    Browser().close()  # a missing browser is one sentence, before anything is paid
    started = time.monotonic()
    with ExitStack() as stack:
        work = stack.enter_context(claim(out, "from-pdfs"))
        ledger = stack.enter_context(Ledger(str(work / "answers")))
        chosen = choose_pages(source, str(work / "source"), settings.choice, workers, out)
        if not chosen.pages:
            reasons = "; ".join(f"{name}: {why}" for name, why in list(chosen.left.items())[:3])
            raise ValueError(
                f"{source}: none of its {chosen.documents} PDFs gives a page ({reasons})"
            )
        progress = ProgressDisplay("from-pdfs", len(chosen.pages))
        stack.callback(progress.close)
        progress.say(str(estimate(len(chosen.pages), settings, templates, share)))
        api = stack.enter_context(
            Api(
                endpoint.base_url,
                endpoint.key,
                attempts=endpoint.tries,
                timeout_s=endpoint.timeout_s,
                longest_wait_s=min(60.0, max(endpoint.poll_s, 0.05)),
            )
        )
        asker = Asker(api, ledger, terms, str(work))
        studio = Studio(
            stack.enter_context(PdfPool(min(workers, 4))),
            templates,
            settings.side,
            settings.densify,
            str(work / "prints"),
            settings.extras.redact,
        )
        browsers = stack.enter_context(BrowserPool(workers))
        book = Book(work, _mark(settings, templates), chosen.pages, ledger, progress)
        maker = Maker(studio, asker, browsers, book)
        if endpoint.batch:
            folder = str(work / "batches")
            maker.by_batches(BatchAsker(asker, folder, endpoint.base_url, endpoint.poll_s))
        else:
            maker.page_by_page(endpoint.concurrency)
        papers = {name: record["paper"] for name, record in book.made.items()}
        typos = typo_pages(
            work / "pages", papers, settings.extras.variants, settings.choice.seed, browsers
        )
        report = _finish(out, work, book, settings, templates, workers, typos)
    report |= {"chosen": told(chosen), "seconds": round(time.monotonic() - started, 1)}
    storage.write_json(storage.join(out, "report.json"), report)
    return report


def _terms(settings: Settings, share: float) -> Terms:
    terms = Terms(settings.model, settings.price, settings.max_usd, settings.max_tokens, share)
    if settings.max_usd is not None and terms.known_price is None:
        raise ValueError(
            f"--max-usd {settings.max_usd:g}: the price of {settings.model} is not known here; "
            "give it with --price IN,OUT (dollars per million tokens)"
        )
    return terms


def _mark(settings: Settings, templates: Mapping[str, Template]) -> str:
    """What a page that was made depends on, besides its source."""
    used = (*STAGES, "densify") if settings.densify else STAGES
    told = [_MADE_BY, settings.model, settings.side, [templates[stage].digest for stage in used]]
    told += ["redacted"] if settings.extras.redact else []
    return hashlib.sha256(json.dumps(told).encode("utf-8")).hexdigest()[:16]


# -- pages


class Book:
    """What became of each page; those that were made are kept over restarts.

    Args:
        work: Working folder.
        mark: What pages depend on; those made with another are made anew.
        pages: All pages.
        ledger: Answers and costs.
        progress: Display.
    """

    def __init__(
        self,
        work: Path,
        mark: str,
        pages: Sequence[SourcePage],
        ledger: Ledger,
        progress: ProgressDisplay,
    ) -> None:
        self.work = work
        self.mark = mark
        self.pages = {page.name: page for page in pages}
        self.ledger = ledger
        self.progress = progress
        self.made: dict[str, dict[str, Any]] = {}
        """Records of the pages that were made, by name."""
        self.dropped: dict[str, str] = {}
        """Why pages cannot be made."""
        self.postponed: dict[str, str] = {}
        """Why pages were not made this time."""
        self._lock = threading.Lock()
        for name in self.pages:
            path = self._path(name, ".json")
            if path.exists():
                record = json.loads(path.read_text("utf-8"))
                if record["mark"] == mark:
                    self.made[name] = record
        self._show()

    @property
    def missing(self) -> list[SourcePage]:
        """Pages that have to be made."""
        return [page for name, page in self.pages.items() if name not in self.made]

    def settle(self, page: SourcePage, outcome: Made | Exception) -> None:
        """Note what became of a page.

        Raises:
            Exception: the outcome, if it is not about this page.
        """
        if isinstance(outcome, Made):
            record = self._write(page, outcome)
            with self._lock:
                self.made[page.name] = record
        elif isinstance(outcome, NotNow):
            with self._lock:
                self.postponed[page.name] = str(outcome)
        elif isinstance(outcome, Dropped | Unanswered | BadPage):
            reason = outcome.reason if isinstance(outcome, BadPage) else str(outcome)
            with self._lock:
                self.dropped[page.name] = reason
        else:
            raise outcome
        self._show()

    def _write(self, page: SourcePage, made: Made) -> dict[str, Any]:
        """Write a page's files, and its record last."""
        truth = truth_html(read_model_html(made.html))
        os.makedirs(self.work / "pages", exist_ok=True)
        os.replace(made.pdf, self._path(page.name, ".pdf"))
        files.write_text(str(self._path(page.name, ".md")), read_html(truth).markdown)
        files.write_text(str(self._path(page.name, ".html")), truth)
        files.write(str(self._path(page.name, ".jpg")), made.source_picture)
        files.write_text(str(printed_html(self.work / "pages", page.name)), made.html)
        record = {
            "mark": self.mark,
            "turned": made.turn,
            "paper": [made.width, made.height],
            "scale": made.scale,
            "language": made.language,
            "columns": made.columns,
            "stages": made.stages,
            "left": dict(made.left),
            "likeness": asdict(made.likeness),
            "likeness_told": made.likeness.sentence,
        }
        files.write_json(str(self._path(page.name, ".json")), record)
        return record

    def _path(self, name: str, suffix: str) -> Path:
        return self.work / "pages" / f"{name}{suffix}"

    def _show(self) -> None:
        counts = {
            "done": len(self.made), "skipped": len(self.dropped), "failed": len(self.postponed)
        }  # fmt: skip
        self.progress.show(counts, {"cost_usd": self.ledger.usd})


@dataclass(frozen=True)
class Maker:
    """Takes every missing page through its stages."""

    studio: Studio
    asker: Asker
    browsers: BrowserPool
    book: Book

    def page_by_page(self, concurrency: int) -> None:
        """Ask for one page after the other, some at a time, each in a thread."""
        for page, outcome in in_order(self._make, self.book.missing, workers=concurrency):
            self.book.settle(page, outcome)

    def _make(self, page: SourcePage) -> tuple[SourcePage, Made | Exception]:
        story = write_page(page, self.studio)
        step: Callable[[], Need] = partial(next, story)
        try:
            while True:
                need = step()
                try:
                    step = partial(story.send, self._give(need))
                except (Unanswered, NotNow, BadPage) as error:
                    step = partial(story.throw, error)
        except StopIteration as stop:
            return page, stop.value
        except (Dropped, Unanswered, NotNow, BadPage) as error:
            return page, error

    def _give(self, need: Need) -> Any:
        if isinstance(need, Question):
            return self.asker.ask(need)
        return self.browsers.call(print_model_page, need)

    def by_batches(self, batches: BatchAsker) -> None:
        """Ask for all pages stage by stage."""
        steps: dict[str, Callable[[], Need]] = {}
        stories = {page.name: write_page(page, self.studio) for page in self.book.missing}
        for name, story in stories.items():
            steps[name] = partial(next, story)
        while steps:
            needs = dict(self._advance(steps))
            steps = {
                name: partial(
                    stories[name].throw if isinstance(got, Exception) else stories[name].send, got
                )
                for name, got in self._give_all(needs, batches)
            }

    def _advance(self, steps: Mapping[str, Callable[[], Need]]) -> Iterator[tuple[str, Need]]:
        """What each page needs next; those that need nothing more are settled."""
        for name, step in steps.items():
            page = self.book.pages[name]
            try:
                yield name, step()
            except StopIteration as stop:
                self.book.settle(page, stop.value)
            except (Dropped, Unanswered, NotNow, BadPage) as error:
                self.book.settle(page, error)

    def _give_all(
        self, needs: Mapping[str, Need], batches: BatchAsker
    ) -> Iterator[tuple[str, Any]]:
        questions = {name: need for name, need in needs.items() if isinstance(need, Question)}
        jobs = {name: need for name, need in needs.items() if name not in questions}
        yield from zip(jobs, self.browsers.map(print_model_page, list(jobs.values())), strict=True)
        answers = batches.ask_all(list(questions.values())) if questions else []
        yield from zip(questions, answers, strict=True)


# -- the folders


def _finish(
    out: str,
    work: Path,
    book: Book,
    settings: Settings,
    templates: Mapping[str, Template],
    workers: int,
    typos: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Bench folder, pairs, sheet and manifest of the pages that bear their tests out."""
    if not book.made:
        reasons = Counter((book.postponed | book.dropped).values()).most_common(3)
        told = "; ".join(f"{count} x {reason}" for reason, count in reasons)
        raise ValueError(f"none of {len(book.pages)} pages was made ({told})")
    finish = Finish(settings.extras, typos, settings.choice.seed, workers)
    report = write_proven(
        out,
        work,
        sorted({*book.made, *typos}),
        seed=settings.choice.seed,
        most_tests=settings.most_tests,
        workers=workers,
        told=lambda page: finish.told(_known(book, finish, page)),
        finish=finish.bench,
    )
    finish.write(out, book.pages, lambda name: _row(name, book, settings, templates, report))
    ledger = book.ledger
    totals = sum(ledger.by_page.values(), Counter[str]())
    report["made"] = len(book.made)
    report["dropped"] = book.dropped
    report["not_this_time"] = book.postponed
    report["asked"] = {
        "model": settings.model,
        "answered_as": dict(ledger.models.most_common()),
        "calls": dict(sorted(ledger.calls.items())),
        **{name: round(value, 6) for name, value in sorted(totals.items())},
    }
    return report


def _known(book: Book, finish: Finish, page: SheetPage) -> SheetPage:
    """What the sheet tells of a page besides the render, truth and tests."""
    name = finish.source_of(page.name)
    record = book.made[name]
    left = tuple(
        f"left out of the HTML: {count} x {what}" for what, count in record["left"].items()
    )
    cost = float(book.ledger.by_page[page.name]["cost_usd"])
    picture = book.work / "pages" / f"{name}.jpg"
    return replace(
        page,
        # the source page shows what the redacted one must not
        source_picture=None if finish.extras.redact else picture.read_bytes(),
        notes=(record["likeness_told"], *left),
        cost=cost if cost else None,
    )


def _row(
    name: str,
    book: Book,
    settings: Settings,
    templates: Mapping[str, Template],
    report: Mapping[str, Any],
) -> dict[str, Any]:
    """One page in the manifest."""
    page, record = book.pages[name], dict(book.made.get(name, {}))
    record.pop("mark", None)
    record.pop("likeness_told", None)
    reason = book.dropped.get(name) or book.postponed.get(name)
    why = reason or report["pages_without_tests"].get(name)
    spent = book.ledger.by_page[name]
    price = _terms(settings, 1.0).known_price
    return {
        "page": name,
        "source": page.source,
        "source_page": page.number,
        "model": settings.model,
        "answered_as": dict(book.ledger.models_of[name]),
        "templates": {
            stage: {"version": template.version, "sha256": template.digest}
            for stage, template in templates.items()
        },
        **({"licence": settings.extras.licence} if settings.extras.licence else {}),
        "price_per_million_tokens": list(price) if price else None,
        **record,
        **{key: round(value, 6) for key, value in sorted(spent.items())},
        "tests": report["tests_per_page"].get(name, 0),
        **({"dropped": why} if why else {}),
    }
