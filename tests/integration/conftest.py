"""Whole runs that several modules look at."""

import pytest
from running import run, sft_settings


@pytest.fixture(scope="session")
def sft_run(tiny_pages, tiny_model, tmp_path_factory):
    """Ten SFT steps on two workers over 24 pages and a broken one, transcriptions on the way."""
    runs = tmp_path_factory.mktemp("runs")
    root = runs / "pages" / "sft"
    root.mkdir(parents=True)
    for path in (tiny_pages / "sft").rglob("*"):
        if path.is_file():
            (root / path.name).symlink_to(path)
    (root / "broken.pdf").write_bytes(b"not a pdf")
    (root / "broken.md").write_text("---\n---\n")
    out = runs / "whole"
    run("olmrl.sft", *sft_settings(tiny_pages, tiny_model, out, root), "learner.workers=2")
    return out
