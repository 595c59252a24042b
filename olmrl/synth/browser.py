"""Chromium as a typesetter: heights of blocks, and one page as a PDF. No network, no scripts.

Needs the package playwright (extra `chromium`) and a Chromium: the one on the PATH, or playwright's
own. Pages are handed over as text, with scripts switched off, every request refused, and a limit on
time; a browser that hangs or dies is replaced, and its page is the failure.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import Any

TIMEOUT_S = 20.0
"""Seconds that one call may take."""
MAX_HTML_CHARS = 4_000_000
"""Longest page that is handed over."""
_ARGUMENTS = (
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--no-first-run",
    "--renderer-process-limit=1",
    "--js-flags=--max-old-space-size=256",
)
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

    Raises:
        ValueError: playwright or Chromium is missing (says how to get them).
    """

    def __init__(self) -> None:
        try:
            from playwright.sync_api import sync_playwright  # noqa: PLC0415  (optional extra)
        except ImportError as error:
            raise ValueError(
                "rendering HTML needs the package playwright: pip install 'olmrl[chromium]'"
            ) from error
        self._driver = sync_playwright().start()
        self._chromium: Any = None
        self._page: Any = None
        try:
            self._open()
        except ValueError:
            self._driver.stop()
            raise

    def _open(self) -> None:
        from playwright.sync_api import Error  # noqa: PLC0415

        path = shutil.which("chromium") or shutil.which("google-chrome")
        try:
            self._chromium = self._driver.chromium.launch(
                executable_path=path, args=list(_ARGUMENTS), chromium_sandbox=False
            )
        except Error as error:
            raise ValueError(
                "rendering HTML needs Chromium, and none could be started: install it (Debian: "
                "apt-get install chromium) or run 'playwright install chromium' "
                f"({str(error).splitlines()[0]})"
            ) from error
        context = self._chromium.new_context(java_script_enabled=False, offline=True)
        context.route("**/*", lambda route: route.abort())
        self._page = context.new_page()
        self._page.set_default_timeout(TIMEOUT_S * 1000)

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

        return self._ask(html, work)  # type: ignore[no-any-return]

    def _ask(self, html: str, question: Any) -> Any:
        from playwright.sync_api import Error  # noqa: PLC0415

        if len(html) > MAX_HTML_CHARS:
            raise BrowserFailed(f"the page has more than {MAX_HTML_CHARS / 1e6:g} M characters")
        try:
            self._page.set_content(html, wait_until="load")
            return question(self._page)
        except Error as error:
            self._replace()
            raise BrowserFailed(f"Chromium gave up: {str(error).splitlines()[0]}") from error

    def _replace(self) -> None:
        from playwright.sync_api import Error  # noqa: PLC0415

        with suppress(Error):  # it may have died already
            self._chromium.close()
        self._open()

    def close(self) -> None:
        """End the browser."""
        from playwright.sync_api import Error  # noqa: PLC0415

        with suppress(Error):
            self._chromium.close()
        self._driver.stop()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
