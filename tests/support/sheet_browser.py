"""A real browser for the tests of pages that people judge; skips without one."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def launched():
    """Chromium; to be shared by the tests of a module."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    if shutil.which("chromium") is None:
        pytest.skip("needs chromium on the PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), chromium_sandbox=False
        )
        yield browser
        browser.close()


@contextmanager
def opened(browser, index):
    """The page as a browser shows it; fails at the end if it made an error or asked outside."""
    page = browser.new_page()
    errors, asked = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(dialog.message))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(Path(index).as_uri())
    yield page
    page.close()
    assert errors == []
    folder = Path(index).parent.as_uri()
    assert [url for url in asked if not url.startswith((folder, "blob:"))] == []


def saved_marks(page):
    """The rows of marks.jsonl, as the button saves it."""
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "marks.jsonl"
    return [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
