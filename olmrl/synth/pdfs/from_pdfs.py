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

import time
from contextlib import ExitStack
from typing import Any

from olmrl import storage
from olmrl.mix.api import Api
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.prices import BATCH_SHARE
from olmrl.mix.progress import ProgressDisplay
from olmrl.synth.asking.asker import Asker
from olmrl.synth.asking.batches import BatchAsker
from olmrl.synth.asking.ledger import Ledger
from olmrl.synth.making.claim import claim
from olmrl.synth.pdfs.book import Book
from olmrl.synth.pdfs.estimate import estimate
from olmrl.synth.pdfs.folders import write_folders
from olmrl.synth.pdfs.maker import Maker
from olmrl.synth.pdfs.settings import Endpoint, Settings, mark_of, terms_of
from olmrl.synth.pdfs.source_pages import choose_pages, told
from olmrl.synth.pdfs.stages import PARSERS
from olmrl.synth.pdfs.template_files import load_templates
from olmrl.synth.pdfs.typo_pages import typo_pages
from olmrl.synth.pdfs.writing import Studio
from olmrl.synth.web.browser import Browser
from olmrl.synth.web.browser_pool import BrowserPool


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
    terms = terms_of(settings, share)
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
        book = Book(work, mark_of(settings, templates), chosen.pages, ledger, progress)
        maker = Maker(studio, asker, browsers, book)
        if endpoint.batch:
            folder = str(work / "batches")
            maker.by_batches(BatchAsker(asker, folder, endpoint.base_url, PARSERS, endpoint.poll_s))
        else:
            maker.page_by_page(endpoint.concurrency)
        papers = {name: record["paper"] for name, record in book.made.items()}
        typos = typo_pages(
            work / "pages", papers, settings.extras.variants, settings.choice.seed, browsers
        )
        report = write_folders(out, work, book, settings, templates, workers, typos)
    report |= {"chosen": told(chosen), "seconds": round(time.monotonic() - started, 1)}
    storage.write_json(storage.join(out, "report.json"), report)
    return report
