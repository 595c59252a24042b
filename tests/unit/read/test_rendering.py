"""The work of the Ray Data tasks of `olmrl read`, without Ray: pages counted, drawn, encoded."""

import numpy as np
from reading_server import write_pages

from olmrl.data.encode import EncoderSpec
from olmrl.data.page import PageSource, load_page
from olmrl.data.render import BadPage
from olmrl.read.rendering import CountWork, EncodeWork


def test_pages_are_counted_and_encoded_as_in_training(tiny, tmp_path):
    good = str(write_pages(tmp_path / "good.pdf", [60, 80]))
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.4 nothing")
    paths = (good, str(broken), str(tmp_path / "missing.pdf"))
    counted = [CountWork(paths)(0, k, k).note for k in range(len(paths))]
    assert counted[0] == 2 and all(isinstance(bad, BadPage) for bad in counted[1:])

    sources = tuple(PageSource(f"good::{n}", good, n) for n in (1, 2, 3))
    spec = EncoderSpec(tiny)
    work = EncodeWork(sources, 84, spec)
    assert work.count == 3
    for index in (0, 1):
        made = work(0, index, index)
        expected = spec.build().encode_page(load_page(sources[index], 84))
        assert made.note is None
        np.testing.assert_array_equal(made.payload.patches, expected.patches)
        np.testing.assert_array_equal(made.payload.prompt_ids, expected.prompt_ids)
    beyond = work(0, 2, 2)
    assert beyond.payload is None and "out of range" in beyond.note.reason
