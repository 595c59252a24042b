"""Pages of `synth from-pdfs` without a browser: a press that sets plain text, and one whole run.

As a program: `page_press.py OUT URL PAGES.json` makes the pages, to be killed on its way.
"""

import json
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from reportlab.pdfgen.canvas import Canvas

from olmrl.mix.api import Api
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.prices import BATCH_SHARE
from olmrl.mix.progress import ProgressDisplay
from olmrl.synth.asking.asker import Asker
from olmrl.synth.asking.batches import BatchAsker
from olmrl.synth.asking.ledger import Ledger
from olmrl.synth.asking.terms import Terms
from olmrl.synth.pdfs.book import Book
from olmrl.synth.pdfs.maker import Maker
from olmrl.synth.pdfs.model_html import read_model_html
from olmrl.synth.pdfs.printing import Printed
from olmrl.synth.pdfs.settings import Settings
from olmrl.synth.pdfs.stages import PARSERS
from olmrl.synth.pdfs.template_files import load_templates
from olmrl.synth.pdfs.writing import SourcePage, Studio

SETTINGS = Settings(model="gpt-4.1", side=256)


class Press:
    """Stands where the browsers stand; `faults(html)` are those of a print."""

    def __init__(self, faults=lambda html: ()):
        self.faults = faults

    def call(self, job, need):
        read_model_html(need.html)
        Path(need.pdf).parent.mkdir(parents=True, exist_ok=True)
        canvas = Canvas(need.pdf, pagesize=(need.width * 0.75, need.height * 0.75), invariant=1)
        canvas.drawString(10, 50, f"{len(need.html)} characters")
        canvas.save()
        return Printed(1.0, tuple(self.faults(need.html)))

    def map(self, job, needs):
        return map(partial(self.call, job), needs)


def make(out, pages, url, *, settings=SETTINGS, press=None, pool=None, batch=False, **api):
    """Take pages through all stages; returns the book, whose journal is closed."""
    work = Path(out)
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger(str(work / "answers")))
        pool = pool or stack.enter_context(PdfPool(1))
        progress = ProgressDisplay("test", len(pages))
        stack.callback(progress.close)
        told = {"attempts": 2, "longest_wait_s": 0.01, **api}
        server = stack.enter_context(Api(url, "test-key", **told))
        share = BATCH_SHARE if batch else 1.0
        limits = (settings.price, settings.max_usd, settings.max_tokens)
        asker = Asker(server, ledger, Terms(settings.model, *limits, share), str(work))
        templates = load_templates(settings.templates)
        studio = Studio(pool, templates, settings.side, settings.densify, str(work / "prints"))
        mark = repr((settings.model, settings.densify, settings.templates))
        book = Book(work, mark, pages, ledger, progress)
        maker = Maker(studio, asker, press or Press(), book)
        if batch:
            maker.by_batches(BatchAsker(asker, str(work / "batches"), url, PARSERS, poll_s=0.01))
        else:
            maker.page_by_page(1)
    return book


if __name__ == "__main__":
    out, url, listed, how = sys.argv[1:]
    make(out, [SourcePage(**row) for row in json.loads(Path(listed).read_text())], url,
         batch=how == "batch")  # fmt: skip
