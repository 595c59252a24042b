"""Fixtures of the reading tests."""

import pytest
from reading_server import write_pages


@pytest.fixture
def library(tmp_path):
    """Two PDFs with three and one pages, 10 to 40 pt wide."""
    folder = tmp_path / "library"
    write_pages(folder / "one.pdf", [10, 20, 30])
    write_pages(folder / "sub" / "two.PDF", [40])
    return folder


@pytest.fixture
def read(monkeypatch, capsys):
    """Run the command in this process; gives its exit code and what it said."""
    from olmrl.read.__main__ import main

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def run(server, library, out, *more):
        words = [str(library), "--model", "reader", "-o", str(out), "--base-url", server.url]
        code = main([*words, "--longest-side", "100", *map(str, more)])
        return code, capsys.readouterr().err

    return run
