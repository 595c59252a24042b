"""Takes every missing page through its stages, page by page or in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from olmrl.data.bad_page import BadPage
from olmrl.mix.run import in_order
from olmrl.synth.asking.asker import Asker
from olmrl.synth.asking.batches import BatchAsker
from olmrl.synth.asking.question import NotNow, Question, Unanswered
from olmrl.synth.pdfs.book import Book
from olmrl.synth.pdfs.printing import print_model_page
from olmrl.synth.pdfs.writing import Dropped, Made, Need, SourcePage, Studio, write_page
from olmrl.synth.web.browser_pool import BrowserPool


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
