"""`olmrl read` with engines: whole documents on Ray, a tiny model, and a call that goes on."""

import json

import numpy as np
import pytest
from data_pdfs import write_pdf

from olmrl.read.__main__ import main


@pytest.fixture(scope="module", autouse=True)
def here(ray_job):
    with ray_job(cpus=4):
        yield


@pytest.fixture
def library(tmp_path):
    """PDFs with two pages, one page, and none that can be opened."""
    write_pdf(tmp_path / "library/a.pdf", ["moon"], size=(60, 80), pages=2)
    write_pdf(tmp_path / "library/b.pdf", ["sun"], size=(80, 60))
    (tmp_path / "library/broken.pdf").write_bytes(b"%PDF-1.4")
    return tmp_path / "library"


@pytest.fixture
def read(tiny_model, tmp_path, monkeypatch):
    """Run the command on this process's job of the shared Ray head."""
    monkeypatch.setattr("olmrl.cluster.connect.start_ray", lambda engines, gpus: (1, 0))
    words = ["--model", str(tiny_model), "--engine", "hf", "--dtype", "float32", "--no-ladder"]
    words += ["--longest-side", "84", "--max-tokens", "12", "--max-model-len", "1024"]
    words += ["--fallback", "answer", "--format", "markdown,dolma"]
    return lambda out, *places: main([*map(str, places), "-o", str(tmp_path / out), *words])


def test_documents_are_read_by_engines_and_a_second_call_reads_what_is_new(
    read, library, tmp_path, capsys
):
    out = tmp_path / "out"
    assert read("out", library / "b.pdf") == 0
    first = (out / "b.md").read_text()
    assert read("out", library) == 0
    said = capsys.readouterr().err
    assert "2 documents and 1 that cannot be opened" in said and "pages/s" in said
    summary = json.loads((out / "summary.json").read_text())
    assert sum(summary["pages"].values()) == 3 and summary["this_call"]["pages"] == 2
    assert 3 <= summary["tokens"]["completion"] <= 3 * 12
    assert "broken.pdf" in (out / "bad_pages.jsonl").read_text()
    assert (out / "b.md").read_text() == first
    document = json.loads((out / "results/a.jsonl").read_text())
    assert [number for _, _, number in document["attributes"]["pdf_page_numbers"]] == [1, 2]


def test_a_turned_page_is_what_the_engine_sees_turned(tiny_model):
    import ray

    from olmrl.config.schema import RolloutConfig
    from olmrl.data.encode import EncoderSpec
    from olmrl.data.payload import pack_block, unpack_block
    from olmrl.read.engines import EngineBackend
    from olmrl.types import Page, RenderedPage

    spec = EncoderSpec(str(tiny_model))
    pixels = np.random.default_rng(0).integers(0, 255, (56, 84, 3), np.uint8)
    page = spec.build().encode_page(RenderedPage(Page("p", "p.pdf", 1), pixels))
    backend = EngineBackend(None, spec, RolloutConfig(), 84)
    turned = unpack_block(ray.get(backend.turn(ray.put(pack_block(page)), 90)))
    assert np.array_equal(spec.build().picture(turned), np.rot90(spec.build().picture(page)))
