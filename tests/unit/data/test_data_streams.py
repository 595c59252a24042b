from __future__ import annotations

import gc
import itertools
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from data_pairs import HEAD, PIPELINE, config, make_pairs
from data_pdfs import write_pdf
from ray.data._internal.execution.streaming_executor import StreamingExecutor
from ray.experimental import get_object_locations

from olmrl.config import ConfigError
from olmrl.data.encode import EncoderSpec
from olmrl.data.items import ExampleNote, Made, StreamItem
from olmrl.data.order import order
from olmrl.data.page import PageSource, load_page
from olmrl.data.page_sets import ExampleWork, load_sets
from olmrl.data.payload import unpack_block
from olmrl.data.render import BadPage
from olmrl.data.sets import count_sets
from olmrl.data.steps import Dropped
from olmrl.data.streams import OrderedStream, PageWork, StreamEnded
from olmrl.data.validate import CACHE_NAME

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


@pytest.fixture(scope="module", autouse=True)
def cluster(ray_job) -> Iterator[None]:
    with ray_job(cpus=2):
        yield


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[PageSource]:
    folder = tmp_path_factory.mktemp("pages")
    found = []
    for k in range(9):
        path = write_pdf(folder / f"{k}.pdf", size=(100 + k, 200))
        found.append(PageSource(f"{k}.pdf::1", str(path), 1))
    (folder / "4.pdf").write_bytes(b"broken")
    return found


def test_order_is_a_permutation_that_changes_with_epoch_and_seed():
    orders = [order(50, seed, epoch).tolist() for seed, epoch in [(1, 0), (1, 1), (2, 0)]]
    assert all(sorted(o) == list(range(50)) for o in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert order(50, 1, 0).tolist() == orders[0]


@pytest.fixture(scope="module")
def spec(tiny_model: Path) -> EncoderSpec:
    return EncoderSpec(str(tiny_model), order="image_first")


def payload(item: StreamItem) -> Any:
    return unpack_block(ray.get(item.payload))


def test_pages_come_in_order_with_bad_ones_in_place(sources, spec):
    items = list(OrderedStream(PageWork(tuple(sources), 60, spec), seed=3, epochs=2))
    assert [(item.epoch, item.index) for item in items] == [
        (e, i) for e in range(2) for i in range(9)
    ]
    for item in items:
        source = sources[order(9, 3, item.epoch)[item.index]]
        if source.page_id == "4.pdf::1":
            assert isinstance(item.note, BadPage)
            assert item.note.path == source.pdf_path
            assert (item.payload, item.payload_bytes, item.image_calls) == (None, 0, 0)
        else:
            assert item.note.page_id == source.page_id == payload(item).page_id
            assert item.image_calls == 1


def test_stream_resumes_at_any_place(sources, spec):
    whole = list(OrderedStream(PageWork(tuple(sources), 60, spec), seed=3, epochs=2))
    for epoch, index in [(0, 5), (1, 0), (1, 8), (0, 9), (1, 9)]:
        start = {"start_epoch": epoch, "start_index": index}
        rest = list(OrderedStream(PageWork(tuple(sources), 60, spec), seed=3, epochs=2, **start))
        expected = whole[epoch * 9 + index :]
        assert [(r.epoch, r.index) for r in rest] == [(e.epoch, e.index) for e in expected]
        for got, wanted in zip(rest, expected, strict=True):
            if not isinstance(wanted.note, BadPage):
                assert got.note == wanted.note
                np.testing.assert_array_equal(payload(got).patches, payload(wanted).patches)


def test_stream_goes_on_for_ever_and_can_keep_file_order(sources, spec):
    taken = list(itertools.islice(OrderedStream(PageWork(tuple(sources), 30, spec), seed=None), 20))
    assert [(item.epoch, item.index) for item in taken] == [(k // 9, k % 9) for k in range(20)]
    assert taken[10].note.page_id == "1.pdf::1"


def test_pages_are_encoded_on_the_way_and_stay_in_the_object_store(sources, spec):
    stream = OrderedStream(PageWork(tuple(sources[:2]), 90, spec), seed=None, epochs=1)
    encoder = spec.build()
    for item, source in zip(stream, sources, strict=False):
        expected = encoder.encode_page(load_page(source, 90))
        got = payload(item)
        np.testing.assert_array_equal(got.patches, expected.patches)
        np.testing.assert_array_equal(got.prompt_ids, expected.prompt_ids)
        assert not got.patches.flags.writeable  # a view of the store, not a copy


@dataclass(frozen=True)
class Small:
    """Payloads of a few bytes."""

    count: int = 8
    item_bytes: int = 10

    def __call__(self, epoch: int, index: int, item: int) -> Made:
        return Made(item, bytes(10))


def test_small_payloads_are_in_the_object_store_not_in_the_memory_of_the_driver():
    items = list(OrderedStream(Small(), None, epochs=1))
    assert [payload(item) for item in items] == [bytes(10)] * 8
    places = get_object_locations([item.payload for item in items])
    assert all(place["node_ids"] for place in places.values())


@dataclass(frozen=True)
class Large:
    """A payload with an array of a megabyte."""

    count: int = 1
    item_bytes: int = 1_000_000

    def __call__(self, epoch: int, index: int, item: int) -> Made:
        return Made(item, np.zeros(1_000_000, np.uint8))


def test_a_large_payload_takes_little_more_than_its_arrays():
    (item,) = OrderedStream(Large(), None, epochs=1)
    assert 0 < item.payload_bytes - 1_000_000 < 1000


@dataclass(frozen=True)
class Touch:
    """Leaves a file per item and makes a megabyte."""

    folder: str
    count: int = 300
    item_bytes: int = 1_000_000

    def __call__(self, epoch: int, index: int, item: int) -> Made:
        Path(self.folder, f"{epoch}-{index}").touch()
        return Made(item, bytes(1_000_000))


def test_a_payload_outlives_its_stream(tmp_path: Path):
    stream = iter(OrderedStream(Touch(str(tmp_path)), None, prefetch=8))
    first, second = next(stream), next(stream)
    stream.close()
    time.sleep(1.0)
    assert (first.note, second.note) == (0, 1)
    assert payload(first) == payload(second) == bytes(1_000_000)
    assert first.payload_bytes > 1_000_000


def test_work_runs_ahead_only_as_far_as_asked(tmp_path: Path):
    stream = OrderedStream(Touch(str(tmp_path)), None, prefetch=16)
    iterator = iter(stream)
    consumed = 0
    for wanted in (1, 60):
        while consumed < wanted:
            next(iterator)
            consumed += 1
        time.sleep(2.0)
        made = len(list(tmp_path.iterdir()))
        # what waits, two blocks being made, one in the consumer's hands, and one that is made but
        # that Ray Data on a busy machine has not counted yet
        assert made <= consumed + 16 + 4 * 4
    iterator.close()


def test_a_stream_that_is_ahead_takes_no_cpu(tmp_path: Path):
    stream = OrderedStream(Touch(str(tmp_path)), None, prefetch=16)
    iterator = iter(stream)
    next(iterator)
    time.sleep(3.0)
    before, started = time.process_time(), time.monotonic()
    time.sleep(2.0)
    share = (time.process_time() - before) / (time.monotonic() - started)
    iterator.close()
    assert share < 0.2  # Ray Data's thread spins if it is let: 1.0


@dataclass(frozen=True)
class DieOnce:
    """Takes its process down at two items, the first time."""

    folder: str
    count: int = 24
    item_bytes: int = 10

    def __call__(self, epoch: int, index: int, item: int) -> Made:
        mark = Path(self.folder, str(item))
        if item in (3, 17) and not mark.exists():
            mark.touch()
            os._exit(1)
        return Made(item)


def test_work_of_a_data_worker_that_dies_is_done_again(tmp_path: Path):
    items = list(OrderedStream(DieOnce(str(tmp_path)), 5, epochs=1))
    assert [item.index for item in items] == list(range(24))
    assert [item.note for item in items] == order(24, 5, 0).tolist()
    assert {mark.name for mark in tmp_path.iterdir()} == {"3", "17"}


@dataclass(frozen=True)
class Sleep:
    """Takes longer over its second item than anybody waits."""

    folder: str
    count: int = 2
    item_bytes: int = 10

    def __call__(self, epoch: int, index: int, item: int) -> Made:
        if item == 1:
            Path(self.folder, "asleep").touch()
            time.sleep(600)
        return Made(item)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # SystemExit
def test_a_stream_ends_while_an_item_is_being_made(tmp_path: Path):
    stream = OrderedStream(Sleep(str(tmp_path)), None, epochs=1, most_per_task=1)
    ended: list[BaseException] = []

    def consume() -> None:
        try:
            list(stream)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=consume)
    thread.start()
    while not (tmp_path / "asleep").exists():
        time.sleep(0.1)
    stream.end()
    thread.join(120)
    assert [type(error) for error in ended] == [StreamEnded]
    with pytest.raises(StreamEnded):
        list(stream)


def test_an_ended_stream_leaves_nothing_of_ray_data_to_the_garbage_collector(tmp_path: Path):
    stream = OrderedStream(Touch(str(tmp_path)), None, prefetch=8)
    iterator = iter(stream)
    next(iterator)
    stream.end()
    with pytest.raises(StreamEnded) as kept:  # its traceback holds the frames of the stream
        list(iterator)
    assert kept.value.__traceback__ is not None
    running = [one for one in gc.get_objects() if isinstance(one, StreamingExecutor)]
    assert all(executor._shutdown for executor in running)


@dataclass(frozen=True)
class Fail:
    count: int = 6
    item_bytes: int = 10

    def __call__(self, epoch: int, index: int, item: int) -> Made:
        if item == 3:
            raise ZeroDivisionError("a bug in the work")
        return Made(item)


def test_errors_that_are_no_bad_page_propagate():
    with pytest.raises(Exception, match="a bug in the work"):
        list(OrderedStream(Fail(), None, epochs=1))


def test_impossible_starts(sources, spec):
    with pytest.raises(ValueError, match="at least one page"):
        OrderedStream(PageWork((), 10, spec), seed=1)
    with pytest.raises(ValueError, match="an epoch has 9 pages"):
        OrderedStream(PageWork(tuple(sources), 10, spec), seed=1, start_index=10)


def test_streams_validation_and_repeats(tmp_path: Path, tiny_model: Path):
    root = make_pairs(tmp_path / "set", 6)
    (root / "5.pdf").write_bytes(b"broken")
    (root / "1.md").write_text(HEAD + "| a | b |\n|---|---|\n| 1 | 2 |")
    (root / "2.md").write_text(HEAD + "long " * 900)
    extra = make_pairs(tmp_path / "extra", 2, "other")
    held = make_pairs(tmp_path / "held", 3)
    settings = config(
        tmp_path,
        train=[{"root": str(root)}, {"root": str(extra), "repeat": 2}],
        evaluation=[{"root": str(held), "name": "books", "limit": 2}],
        max_bad_fraction=0.25,
    )
    loaded = load_sets(settings.data, str(tmp_path))
    found = loaded.found
    assert (found.pairs, found.refused, found.limited) == (11, 1, 1)
    judged = zip(loaded.train.items, loaded.foreseen, strict=True)
    ruled = [item.source.pdf_path for item, rule in judged if rule]
    assert (found.dropped, found.kept) == (len(set(ruled)), 9 - len(set(ruled)))
    assert f"{found.kept} kept" in str(found) and "1 refused" in str(found)
    assert len(loaded.train.items) == 5 + 2 * 2
    assert [(s.name, len(s.items)) for s in loaded.evaluation] == [("books", 2)]
    assert [Path(bad.path).name for _, bad in loaded.bad] == ["5.pdf"]
    assert loaded.opened == 11

    assert found.plain == 0 and "front matter" not in str(found)

    # known pairs are not opened again, changed ones are
    assert load_sets(settings.data, str(tmp_path)).opened == 0
    (root / "0.md").write_text("markdown alone")
    for opened in (1, 0):
        again = load_sets(settings.data, str(tmp_path))
        assert again.opened == opened and again.found.plain == 1
        assert str(again.found).endswith("; 1 without front matter, taken as upright pages of text")

    # that a file cannot be read is not remembered
    text = (root / "3.md").read_text()
    (root / "3.md").unlink()
    (root / "3.md").symlink_to("3.md")
    unread = load_sets(settings.data, str(tmp_path))
    assert sorted(Path(bad.path).name for _, bad in unread.bad) == ["3.pdf", "5.pdf"]
    assert load_sets(settings.data, str(tmp_path)).opened == 1
    (root / "3.md").unlink()
    (root / "3.md").write_text(text)
    assert load_sets(settings.data, str(tmp_path)).opened == 1
    assert load_sets(settings.data, str(tmp_path)).opened == 0
    (tmp_path / "cache" / CACHE_NAME).write_bytes(b"damaged")
    assert load_sets(settings.data, str(tmp_path)).opened == 11

    spec = EncoderSpec(str(tiny_model))
    work = ExampleWork(loaded.train, spec, max_tokens=2000, seed=7)
    whole = list(OrderedStream(work, seed=7, epochs=2))
    assert [(item.epoch, item.index) for item in whole] == [
        (e, i) for e in range(2) for i in range(9)
    ]
    first = [item.note for item in whole if item.epoch == 0]
    drops = {(v.page_id, v.rule) for v in first if isinstance(v, Dropped)}
    assert drops == {("1.pdf::1", "markdown table"), ("2.pdf::1", "more than 2000 tokens")}
    kept = [v.page_id for v in first if isinstance(v, ExampleNote)]
    assert sorted(kept) == sorted(
        ["0.pdf::1", "3.pdf::1", "4.pdf::1"] + ["0.pdf::1", "1.pdf::1"] * 2
    )

    # a stream that starts in the middle draws the same augmentation
    rest = list(OrderedStream(work, seed=7, epochs=2, start_epoch=1, start_index=4))
    assert len(rest) == 5
    for got, wanted in zip(rest, whole[13:], strict=True):
        if isinstance(wanted.note, ExampleNote):
            here, there = payload(got), payload(wanted)
            np.testing.assert_array_equal(here.page.patches, there.page.patches)
            np.testing.assert_array_equal(here.labels, there.labels)
            assert got.note.num_tokens == here.num_tokens
            assert got.image_calls == 1
        else:
            assert got.note == wanted.note


def test_unusable_configurations(tmp_path: Path):
    root = make_pairs(tmp_path / "set", 3)
    train = [{"root": str(root)}]
    with pytest.raises(ValueError, match=r"data\.pipeline\.0.*unknown step"):
        load_sets(config(tmp_path, train=train, pipeline=[{"name": "X"}]).data, "c")
    with pytest.raises(ValueError, match=r"set set, data\.pipeline: no step sets the example"):
        load_sets(config(tmp_path, train=train, pipeline=PIPELINE[:3]).data, "c")
    with pytest.raises(ValueError, match=r"data\.train\.0\.pipeline\.0"):
        broken = [{"root": str(root), "pipeline": [{"name": "Y"}]}]
        load_sets(config(tmp_path, train=broken).data, "c")
    with pytest.raises(ValueError, match="no such folder"):
        load_sets(config(tmp_path, train=[{"root": str(tmp_path / "gone")}]).data, "c")
    (root / "1.md").write_text("---\nno head")
    with pytest.raises(ValueError, match=r"1 of 3 pages cannot be used.*1\.pdf"):
        load_sets(config(tmp_path, train=train).data, "c")
    with pytest.raises(ConfigError):
        config(tmp_path, train=[])


def test_rules_on_the_text_are_foreseen_and_remembered(tmp_path: Path):
    root = make_pairs(tmp_path / "set", 4)
    (root / "1.md").write_text(HEAD + "| a | b |\n|---|---|\n| 1 | 2 |")
    train = [{"root": str(root), "repeat": 2}, {"root": str(root), "name": "more", "limit": 2}]
    settings = config(tmp_path, train=train, evaluation=[{"root": str(root), "name": "held"}])
    rule = "DatasetTextRuleFilter: markdown table"
    assert [count.dropped for count in count_sets(settings.data, "unused")] == [0, 0, 0]
    loaded = load_sets(settings.data, str(tmp_path))
    assert loaded.foreseen == ("", rule, "", "", "", rule, "", "", "", rule)
    assert [len(count.kept) for count in count_sets(settings.data, "unused")] == [8, 2, 4]
    assert [count.dropped for count in count_sets(settings.data, "unused")] == [2, 1, 0]
    # remembered by what judged them: other steps judge anew
    rotated = HEAD.replace("rotation_correction: 0", "rotation_correction: 90")
    (root / "2.md").write_text(rotated + "lying")
    assert [count.dropped for count in count_sets(settings.data, "unused")] == [2, 1, 0]
    steps = [*PIPELINE[:1], {"name": "FilterOutRotatedDocuments"}, *PIPELINE[1:]]
    other = config(tmp_path, train=train[:1], pipeline=steps)
    assert [count.dropped for count in count_sets(other.data, "unused")] == [0]
    turned = "FilterOutRotatedDocuments: rotated page"
    assert load_sets(other.data, str(tmp_path)).foreseen == ("", rule, turned, "") * 2
    assert [count.dropped for count in count_sets(other.data, "unused")] == [4]


def test_a_set_whose_pages_are_all_dropped_by_their_text_is_refused(tmp_path: Path):
    root = make_pairs(tmp_path / "set", 3, "| a | b |\n|---|---|\n| 1 | 2 |\n")
    with pytest.raises(
        ValueError, match=r"no page is left to train on: 0 of 3 pages kept"
    ) as found:
        load_sets(config(tmp_path, train=[{"root": str(root)}]).data, str(tmp_path))
    assert "3 dropped by DatasetTextRuleFilter: markdown table" in str(found.value)
