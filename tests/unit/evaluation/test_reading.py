"""Reading pages, whoever generates: what is asked, and what comes back (with a toy generator)."""

import numpy as np

from olmrl.evaluation.reading import PageReader, ReadingSpec, read_pages
from olmrl.rollout.requests import GenerationFailure
from olmrl.types import Completion, PolicyVersion, VersionSpan

UPRIGHT = (
    "---\nprimary_language: en\nis_rotation_valid: true\nrotation_correction: 0\n"
    "is_table: False\nis_diagram: False\n---\n"
)


def completion(group_id, text="", reason="stop"):
    ids = np.arange(3, dtype=np.int32)
    spans = (VersionSpan(PolicyVersion(0, 0), 0, 3),)
    return Completion(group_id, 0, ids, np.zeros(3, np.float32), spans, reason, text, ids)


class Echo:
    """Says each page back, the newest first; `None` is a page that it gives up."""

    def __init__(self):
        self.asked = {}
        self._done = []
        self.largest = 0

    def submit(self, group_id, page, sampling, seeds):
        assert group_id not in self.asked
        self.asked[group_id] = (sampling, seeds)
        failure = GenerationFailure(group_id, "it does not fit")
        self._done.append(failure if page is None else completion(group_id, page))

    def poll(self, timeout_s):
        self.largest = max(self.largest, len(self._done))
        return [self._done.pop()] if self._done else []


def test_every_page_comes_back_under_its_name_and_only_so_many_are_under_way():
    echo = Echo()
    pages = [(f"p{k}", f"text {k}") for k in range(5)] + [("bad", None)]
    found = {r.name: r for r in read_pages(echo, pages, ReadingSpec(8), at_once=2)}
    assert {name: r.completion.text for name, r in found.items() if r.completion} == dict(pages[:5])
    assert (found["bad"].completion, found["bad"].failure) == (None, "it does not fit")
    assert echo.largest == 2
    assert all(sampling.greedy and sampling.max_tokens == 8 for sampling, _ in echo.asked.values())


def test_no_page_is_read_without_asking_anyone():
    assert list(read_pages(Echo(), [], ReadingSpec(8))) == []


def test_the_same_page_draws_the_same_numbers_whatever_the_prefix():
    spec = ReadingSpec(8, temperatures=(0.8,), seed=3)
    first, second = Echo(), Echo()
    for echo, prefix in ((first, "greedy:"), (second, "1.4:sampled:")):
        reader = PageReader(echo, spec, prefix=prefix)
        for sample in range(2):
            reader.ask(f"page#{sample}", "x")
    seeds = [[seeds for _, seeds in echo.asked.values()] for echo in (first, second)]
    assert seeds[0] == seeds[1] and len(set(seeds[0])) == 2


def test_what_another_one_asked_for_is_left_alone():
    reader = PageReader(Echo(), ReadingSpec(8), prefix="mine:")
    reader.ask("page", "x")
    (group_id,) = reader.group_ids
    assert reader.take(completion(f"others:{group_id}")) is None and len(reader) == 1
    assert reader.take(completion(group_id, "x")).completion.text == "x"
    assert reader.take(completion(group_id, "again")) is None and len(reader) == 0


def test_an_answer_without_front_matter_counts_where_there_is_no_second_attempt():
    echo = Echo()
    (once,) = read_pages(echo, [("p", "no front matter")], ReadingSpec(8))
    assert once.completion.text == "no front matter"
    (twice,) = read_pages(Echo(), [("p", "no front matter")], ReadingSpec(8, (0.0, 0.5)))
    assert twice.completion.text == "no front matter" and twice.completion.group_id == "p#1#0"
    (whole,) = read_pages(Echo(), [("p", UPRIGHT + "text")], ReadingSpec(8, (0.0, 0.5)))
    assert whole.completion.group_id == "p#0#0"
