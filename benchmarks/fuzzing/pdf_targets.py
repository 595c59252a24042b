"""Everything that olmrl does with a PDF of others, as its verbs call it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from olmrl.data.anchor import anchor_text
from olmrl.data.bad_page import BadPage
from olmrl.data.fence import costs_a_reader
from olmrl.data.render import page_count, render_page
from olmrl.mix.pdf_child import PdfPool
from olmrl.mix.pdf_filter import Rules
from olmrl.synth.derived.furniture import count_repeats, margin_lines
from olmrl.synth.derived.page_tests import derive_page
from olmrl.synth.derived.true_pages import TruePage

from .pdf_mutants import mutant
from .pdf_seeds import pdf_seeds
from .record import Part

SIDE = 256
"""Pixels of the longer side of drawn pages."""

_TRUTH = "# Proceedings\n\nThe harbour commission met on the third of May to hear the report.\n"
_RULES = Rules(("en",), False, 0.004)


class PdfPart(Part):
    """Mutated PDFs over render, sample, filters, cut, anchor, furniture and synth."""

    name = "pdf"
    deadline_s = 150.0

    def __init__(self, seed: int, folder: Path, corpus: str | None) -> None:
        super().__init__(seed, folder)
        self._seeds = pdf_seeds(corpus)
        self._pool = PdfPool(1)
        self._path = folder / "input-0.pdf"
        self._path.parent.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """End the readers."""
        self._pool.close()

    def make(self, index: int) -> bytes:
        """The mutant of a number: all of it depends on the seed and the number."""
        rng = random.Random(f"{self.seed}/pdf/{index}")
        name = rng.choice(sorted(self._seeds))
        others = [self._seeds[key] for key in sorted(self._seeds)]
        return mutant(rng, self._seeds[name], others)

    def targets(self, data: bytes) -> Iterator[str]:
        """Run all targets on one mutant; yields the name of each before it runs."""
        self._path.unlink(missing_ok=True)
        # a file that killed a reader is not read again, so each input has a name of its own
        self._path = self._path.with_name(f"input-{self.inputs}.pdf")
        self._path.write_bytes(data)
        path = str(self._path)
        yield "page_count"
        with self._bad_is_fine("page_count"):
            page_count(path)
        yield "render"
        with self._bad_is_fine("render"):
            render_page(path, 1, SIDE)
        yield "anchor"
        with self._bad_is_fine("anchor"):
            anchor_text(path, 1, 2000)
        yield "furniture"
        with self._bad_is_fine("furniture"):
            count_repeats([margin_lines(path), margin_lines(path)])
        yield "sample with filters"
        with self._bad_is_fine("sample with filters"):
            self._pool.call("olmrl.mix.pdf_filter:sample_pdf", path, _RULES, 1, 2, 0)
        yield "cut"
        with self._bad_is_fine("cut"):
            self._draw_cut(path)
        yield "synth"
        with self._bad_is_fine("synth"):
            page = TruePage("p", path, _TRUTH, _TRUTH, margins=margin_lines(path))
            derive_page(page, seed=0, most=5, pages_with={}, repeats={})
        yield "synth, proved"
        with self._bad_is_fine("synth, proved"):
            page = TruePage("p", path, _TRUTH, _TRUTH)
            derive_page(page, seed=0, most=5, pages_with={}, repeats={}, prove=True)

    def _draw_cut(self, path: str) -> None:
        pages = self._pool.call("cut_pages", path, (1,))
        single = self._path.with_name("cut.pdf")
        single.write_bytes(pages[1])
        render_page(str(single), 1, SIDE)

    @contextmanager
    def _bad_is_fine(self, target: str) -> Iterator[None]:
        try:
            yield
        except BadPage as bad:
            # the fence held, but its reader died or had to be killed
            if costs_a_reader(bad.reason):
                self.contained(target, bad.reason)
            else:
                self.refused[target] += 1
