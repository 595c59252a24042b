"""The page that follows a run, and the report that needs no server, in a real browser."""

import re
import threading
from contextlib import contextmanager

import pytest
from report_run import PAGES, image, new_run, rollout, write_evaluation, write_group, write_steps
from sheet_browser import launched, opened

from olmrl.report import serve
from olmrl.report.run import write
from olmrl.report.serve import Server, Site

HOSTILE = "</div><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def browser():
    with launched() as found:
        yield found


@contextmanager
def followed(browser, monkeypatch, *directories, width=1200):
    """The page as a browser shows it; fails if it made an error or asked elsewhere."""
    monkeypatch.setattr(serve, "_LOOK_S", 0.0)
    with Server(Site(directories), 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        page = browser.new_page(viewport={"width": width, "height": 800})
        errors, asked = [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(dialog.message))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        page.clock.install()  # the page asks when the test says so
        page.goto(server.address)
        yield page
        page.close()
        server.shutdown()
    assert errors == []
    assert [url for url in asked if not url.startswith((server.address, "data:"))] == []


def a_run(folder, text="a b d"):
    directory = new_run(folder)
    write_steps(directory, 1, 20)
    for step, passed in ((0, [1, 1, 2]), (20, [2, 3, 3])):
        write_evaluation(directory, step, passed, texts=dict.fromkeys(PAGES[:2], f"{text} {step}"))
    for step in range(1, 7):
        rows = [rollout(f"{text} {k}", [k > 0, True], total=k * step / 9, version=f"1.{step - 1}")
                for k in range(4)]  # fmt: skip
        write_group(directory, step, rows, page_id=PAGES[step % 2], n=step)
    write_group(directory, 7, [rollout(HOSTILE, [False], error=HOSTILE)], page_id=HOSTILE, n=7)
    return directory


def wait_for_count(page, selector, count):
    """Wait until so many are there; a page whose policy forbids eval cannot be asked by script."""
    pytest.importorskip("playwright.sync_api").expect(page.locator(selector)).to_have_count(count)


def later(page):
    """Let the page ask what has changed."""
    with page.expect_response("**/state"):
        page.clock.run_for(4000)


def test_a_run_is_followed_and_clicked_through(browser, monkeypatch, tmp_path):
    directory = a_run(tmp_path / "run")
    with followed(browser, monkeypatch, directory) as page:
        page.wait_for_selector("#groups .group")
        assert "rose from 0.333 to 0.667" in page.inner_text("#answer .headline")
        assert "they take turns" in page.inner_text("#time")
        # held-out pages: the slider, and another page
        page.wait_for_selector("#heldout .panel")
        assert page.inner_text("#at") == "20 of 20"
        assert page.inner_text("#heldout .panel .text >> nth=0") == "a b cd 20"
        page.fill("#step", "0")
        page.wait_for_selector("#heldout .body:has-text('Step 0')")
        page.select_option("#page", PAGES[1])
        page.wait_for_selector("#heldout img")
        # groups: the newest is open; then the widest advantage, then failures, then by page
        assert page.locator(".lines button").count() == 7
        assert "step 7" in page.inner_text(".lines button[aria-pressed=true]")
        assert HOSTILE in page.text_content("#groups .columns .facts")
        page.click("[data-order=advantage]")
        page.wait_for_selector(".lines li:first-child button:has-text('step 6')")
        page.click(".lines button >> nth=0")
        page.wait_for_selector("#groups .matrix td.fail")
        assert page.locator("#groups .columns .transcript").count() == 4
        assert page.inner_text("#groups .columns h4 >> nth=0") == "#3"
        assert page.evaluate("document.querySelector('#groups .group img').naturalWidth") == 40
        page.click("[data-order=failed]")
        wait_for_count(page, ".lines button", 1)
        page.click("[data-order=newest]")
        wait_for_count(page, ".lines button", 7)
        page.fill("#find", "B.PDF")
        assert page.locator(".lines button:visible").count() == 3
        # the run goes on
        write_steps(directory, 21, 22)
        write_evaluation(directory, 22, [3, 4, 4])
        write_group(directory, 22, [rollout("x", [True])], page_id=PAGES[1], n=22)
        later(page)
        page.wait_for_selector(".headline:has-text('0.917')")
        wait_for_count(page, ".lines button", 8)
        assert "step 22 of 40" in page.inner_text("#status-0")
        assert page.locator(".lines button:visible").count() == 4, "the filter stays"
        assert page.inner_text("#at") == "0 of 22", "the slider stays where it was put"
        assert page.input_value("#page") == PAGES[1]
        # the pointer on a curve tells its values
        page.hover("#curves svg[aria-label=reward]")
        assert re.fullmatch(r"step 1[0-3]  reward/mean  1\.1[0-3]?", page.text_content(".tip"))


def test_two_runs_stand_beside_each_other(browser, monkeypatch, tmp_path):
    runs = a_run(tmp_path / "one"), a_run(tmp_path / "two", "other words")
    with followed(browser, monkeypatch, *runs) as page:
        page.wait_for_selector("#heldout .panel")
        page.wait_for_selector("#groups .group")
        assert page.locator("#answer .headline").count() == 2
        assert [p.strip() for p in page.locator("#heldout .run").all_inner_texts()] == [
            "one",
            "two",
        ]
        boxes = [panel.bounding_box() for panel in page.locator("#heldout .panel").all()]
        assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] < boxes[1]["x"]
        assert page.locator("#curves .chart >> nth=0").locator(".line").count() >= 2
        assert page.locator(".lines button").count() == 14


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_runs_over_the_edge_of_a_narrow_window(browser, monkeypatch, tmp_path, width):
    directory = a_run(tmp_path / "run", "w" * 300)
    with followed(browser, monkeypatch, directory, width=width) as page:
        page.wait_for_selector("#groups .group")
        page.wait_for_selector("#heldout .panel")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_run_that_has_just_begun_fills_the_page_later(browser, monkeypatch, tmp_path):
    directory = new_run(tmp_path / "run")
    with followed(browser, monkeypatch, directory) as page:
        page.wait_for_selector(".lines:has-text('No such')")
        assert "No held-out page" in page.inner_text("#answer")
        assert page.is_visible("#unread") and not page.is_visible("#step")
        write_steps(directory, 1, 2)
        write_evaluation(directory, 0, [1, 1, 1])
        write_group(directory, 1, [rollout("x", [True])])
        later(page)
        page.wait_for_selector("#heldout .panel")
        page.wait_for_selector("#groups .group")
        page.wait_for_selector("#curves .chart")
        assert not page.is_visible("#unread") and page.is_visible("#step")


def test_the_report_has_steps_and_orders_without_a_script(browser, tmp_path):
    directory = a_run(tmp_path)
    image(directory, PAGES[0])
    with opened(browser, write(directory)) as page:
        assert page.locator("script").count() == 0
        panels = "#heldout .sheet >> nth=0 >> .panel:visible"
        assert "Step 20." in page.inner_text(panels)
        page.click("#heldout label >> nth=0")
        assert "Step 0." in page.inner_text(panels)
        page.keyboard.press("ArrowRight")
        assert "Step 20." in page.inner_text(panels), "keys move along the steps"
        assert page.locator(".card:visible").count() == 3
        page.click("label[for=order-failed]")
        assert HOSTILE in page.text_content(".card:visible .columns .facts")
        page.click("label[for=order-worst]")
        page.click(".card:visible >> nth=1 >> summary >> nth=0")
        assert page.is_visible(".card:visible >> nth=1 >> .matrix")
