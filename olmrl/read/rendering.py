"""PDFs opened in child processes, which a hostile file may crash: counting and drawing pages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from olmrl.data.encode import EncoderSpec
from olmrl.data.items import Made
from olmrl.data.page import PageSource
from olmrl.data.render import BadPage
from olmrl.data.streams import patch_bytes
from olmrl.mix.pdf_child import PdfPool
from olmrl.types import Page, RenderedPage


@lru_cache(maxsize=1)
def _child() -> PdfPool:
    """This process's child; it ends with the process."""
    return PdfPool(1)


@dataclass(frozen=True, slots=True)
class CountWork:
    """Count the pages of PDFs, as the work of a stream (`data.streams.Work`)."""

    paths: tuple[str, ...]
    item_bytes: int = 1024

    @property
    def count(self) -> int:
        """PDFs."""
        return len(self.paths)

    def __call__(self, epoch: int, index: int, item: int) -> Made:
        """Note the number of pages, or a `BadPage`."""
        try:
            return Made(_child().call("count_pages", self.paths[item]))
        except BadPage as bad:
            return Made(bad)


@dataclass(frozen=True, slots=True)
class EncodeWork:
    """Draw and encode pages, as the work of a stream."""

    sources: tuple[PageSource, ...]
    longest_side: int
    """Pixels of the longer side."""
    encoder: EncoderSpec

    @property
    def count(self) -> int:
        """Pages."""
        return len(self.sources)

    @property
    def item_bytes(self) -> int:
        """Most bytes of a page's patches."""
        return patch_bytes(self.longest_side)

    def __call__(self, epoch: int, index: int, item: int) -> Made:
        """The `EncodedPage` as payload; or note a `BadPage`."""
        source = self.sources[item]
        place = source.pdf_path, source.page_number
        try:
            image = _child().call("olmrl.data.render:render_page", *place, self.longest_side)
            page = Page(source.page_id, *place)
            return Made(None, self.encoder.build().encode_page(RenderedPage(page, image)))
        except BadPage as bad:
            return Made(bad)
