"""The browser that sets pages: what hangs, swells or dies costs its page and nothing else."""

import os
import signal
import stat

import pytest

from olmrl.markup.browser import Chromium, find_chromium
from olmrl.synth.web.browser import MAX_HTML_CHARS, Browser, BrowserFailed

pytest.importorskip("playwright", reason="needs the package playwright")
needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="needs chromium on the PATH")


def page(body):
    return f'<meta charset="utf-8"><div class="text">{body}</div>'


@pytest.fixture(scope="module")
def browser():
    with Browser(timeout_s=4, memory_bytes=500 << 20) as found:
        yield found


def works(browser):
    made = browser.print_page(page("hello"), 400, 400)
    return made is not None and made.startswith(b"%PDF")


def uses(depth):
    """An SVG that says ten times what the one before says ten times."""
    use = '<use href="#a{}"/>'
    levels = "".join(f'<g id="a{n}">{use.format(n - 1) * 10}</g>' for n in range(1, depth))
    return f'<svg>{levels}<g id="a0"><text>x</text></g></svg>'


@needs_chromium
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("<p>hello</p>" * 300_000, "took longer than 4 s|gave up"),
        (uses(12), "took longer than 4 s|gave up"),
        ("x" * (MAX_HTML_CHARS + 1), "more than 4 M characters"),
    ],
    ids=["endless", "swollen", "long"],
)
def test_a_hostile_page_is_the_failure_and_the_next_one_is_set(browser, body, reason):
    with pytest.raises(BrowserFailed, match=reason):
        browser.print_page(page(body), 794, 1123)
    assert works(browser)


@needs_chromium
def test_a_browser_that_dies_is_started_anew(browser):
    assert works(browser)
    os.killpg(browser._chromium._group, signal.SIGKILL)
    with pytest.raises(BrowserFailed, match="gave up"):
        browser.print_page(page("hello"), 400, 400)
    assert works(browser)


@needs_chromium
def test_scripts_do_not_run_and_nothing_is_fetched(browser, tmp_path):
    secret = tmp_path / "secret.html"
    secret.write_text("s3cret")
    body = (
        "<script>while (true) {}</script>"
        f'<iframe src="file://{secret}"></iframe><img src="http://127.0.0.1:1/x.png">'
        f'<link rel="stylesheet" href="file://{secret}"><object data="file://{secret}"></object>'
    )
    made = browser.print_page(page(body), 794, 1123)
    assert made is not None
    path = tmp_path / "made.pdf"
    path.write_bytes(made)
    from olmrl.synth.proof.layer import TextLayer

    assert "s3cret" not in TextLayer.of(str(path)).text


def test_a_wrong_name_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("OLMRL_CHROMIUM", str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"OLMRL_CHROMIUM=.*none: no such program"):
        Chromium("this test")


def test_a_program_that_is_no_browser_is_one_sentence(monkeypatch, tmp_path):
    program = tmp_path / "false"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("OLMRL_CHROMIUM", str(program))
    with pytest.raises(ValueError, match="this test needs Chromium, and none could be started"):
        Chromium("this test")
