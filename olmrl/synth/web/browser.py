"""Chromium as a typesetter: heights of blocks, and one page as a PDF. No network, no scripts.

Needs the package playwright (extra `chromium`) and a Chromium: the one on the PATH, or playwright's
own. Pages are handed over as text, with scripts switched off, every request refused, and a limit on
time; a browser that hangs or dies is replaced, and its page is the failure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from olmrl.markup.browser import MEMORY_BYTES, Chromium

TIMEOUT_S = 20.0
"""Seconds that one call may take."""
MAX_HTML_CHARS = 4_000_000
"""Longest page that is handed over."""
MAX_PDF_BYTES = 50_000_000
"""Largest PDF of a page."""
_OVERFLOWS = """
() => {
  const text = document.querySelector(".text");
  return text.scrollWidth > text.clientWidth + 1 || text.scrollHeight > text.clientHeight + 1;
}
"""
_HEIGHTS = """
() => {
  const blocks = [...document.querySelector(".measure").children];
  return blocks.map((block) => {
    const style = getComputedStyle(block), box = block.getBoundingClientRect();
    return [box.height, parseFloat(style.marginTop), parseFloat(style.marginBottom),
            block.scrollWidth - block.clientWidth];
  });
}
"""


class BrowserFailed(ValueError):
    """A page that the browser could not set: it took too long, or the browser died."""


class Browser:
    """One warm Chromium.

    Args:
        timeout_s: Seconds that one call may take.
        memory_bytes: Memory of one process of the browser.

    Raises:
        ValueError: playwright or Chromium is missing (says how to get them).
    """

    def __init__(self, timeout_s: float = TIMEOUT_S, memory_bytes: int = MEMORY_BYTES) -> None:
        self._timeout_s = timeout_s
        self._chromium = Chromium("rendering HTML", memory_bytes)
        self._open()

    def _open(self) -> None:
        self._page = self._chromium.new_page(java_script_enabled=False)
        self._page.set_default_timeout(1000 * self._timeout_s)

    def heights(self, html: str) -> list[tuple[float, float, float, float]]:
        """Height, margins above and below, and overflow in width of each child of `.measure`.

        Raises:
            BrowserFailed: see there.
        """
        found = self._ask(html, lambda page: page.evaluate(_HEIGHTS))
        return [tuple(block) for block in found]

    def print_page(self, html: str, width: int, height: int) -> bytes | None:
        """A PDF of a page, sizes in CSS pixels; None if its `.text` does not hold all of it.

        Raises:
            BrowserFailed: see there.
        """

        def work(page: Any) -> bytes | None:
            page.emulate_media(media="print")
            if page.evaluate(_OVERFLOWS):
                return None
            data: bytes = page.pdf(
                width=f"{width}px", height=f"{height}px", print_background=True, tagged=False
            )
            return data

        made: bytes | None = self._ask(html, work)
        if made is not None and len(made) > MAX_PDF_BYTES:
            raise BrowserFailed(f"the page's PDF is larger than {MAX_PDF_BYTES / 1e6:g} MB")
        return made

    def _ask(self, html: str, question: Callable[[Any], Any]) -> Any:
        from playwright.sync_api import Error  # noqa: PLC0415  (optional extra)

        if len(html) > MAX_HTML_CHARS:
            raise BrowserFailed(f"the page has more than {MAX_HTML_CHARS / 1e6:g} M characters")
        with self._chromium.deadline(self._timeout_s) as late:
            try:
                self._page.set_content(html, wait_until="load", timeout=0)
                return question(self._page)
            except Error as error:
                told = str(error).splitlines()[0]
        self._chromium.start()
        self._open()
        late_reason = f"Chromium took longer than {self._timeout_s:g} s for a page"
        raise BrowserFailed(late_reason if late.is_set() else f"Chromium gave up: {told}")

    def close(self) -> None:
        """End the browser."""
        self._chromium.close()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
