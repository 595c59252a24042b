"""`synth from-html --ray`: the same pages, set by actors."""

import shutil

import pytest
from languages import document

from olmrl.markup.browser import find_chromium
from olmrl.synth.documents.from_html import from_html
from olmrl.synth.documents.settings import Settings

pytest.importorskip("playwright", reason="needs the package playwright")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="needs chromium on the PATH"),
    pytest.mark.skipif(shutil.which("fc-list") is None, reason="needs fc-list on the PATH"),
]


def texts(folder):
    return {
        path.name: path.read_bytes()
        for path in sorted((folder / "bench").rglob("*"))
        if path.suffix in (".jsonl", ".md")
    }


def test_actors_set_the_pages_that_processes_set(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for language in ("fr", "ru", "el"):
        (source / f"{language}.html").write_text(document(language), "utf-8")
    for name, address in (("here", None), ("ray", "local")):
        from_html(str(source), str(tmp_path / name), Settings(), 2, ray_address=address)
    assert texts(tmp_path / "ray") == texts(tmp_path / "here") != {}
