"""A browser leaves nothing in the temporary folder, although it is always killed."""

import tempfile
from pathlib import Path

import pytest

from olmrl.markup.browser import Chromium

pytest.importorskip("playwright")


def test_nothing_is_left_of_a_browser(monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # a socket's path has 107 characters
        monkeypatch.setattr(tempfile, "tempdir", short)
        monkeypatch.setenv("TMPDIR", short)
        try:
            browser = Chromium("this test")
        except ValueError as error:
            pytest.skip(str(error))
        browser.new_page().set_content("<p>x")
        browser.start()  # anew
        assert len(list(Path(short).glob("olmrl-scratch-*"))) == 1
        browser.close()
        left = [path.name for path in Path(short).iterdir()]
        assert not [name for name in left if name.startswith(("olmrl", "org.chromium"))]
