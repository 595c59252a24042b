"""Transcription: the retry ladder, turned pages, files of an earlier call (with a toy engine)."""

import numpy as np
import pytest

from olmrl.config.schema import RolloutConfig
from olmrl.data.encode import Encoder, EncoderSpec
from olmrl.data.page import scan_bench
from olmrl.data.payload import unpack_block
from olmrl.evaluation.transcribe import LADDER, TranscribeSettings, target_path, write_readings
from olmrl.types import Completion, PolicyVersion, VersionSpan

HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: {valid}\nrotation_correction: {turn}\n"
    "is_table: False\nis_diagram: False\n---\n"
)
UPRIGHT = HEAD.format(valid=True, turn=0)
TURNED = HEAD.format(valid=False, turn=90)


class ToyPool:
    """Answers each request by the next text of a script, and remembers what was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        self._done = []

    def submit(self, group_id, page, sampling, seeds):
        text, reason = self.answers.pop(0)
        ids = np.arange(3, dtype=np.int32)
        self.asked.append((page, sampling, seeds))
        self._done.append(
            Completion(
                group_id, 0, ids, np.zeros(3, np.float32),
                (VersionSpan(PolicyVersion(0, 0), 0, 3),), reason, text, ids,
            )
        )  # fmt: skip

    def poll(self, timeout_s):
        done, self._done = self._done, []
        return done


@pytest.fixture
def no_ray(monkeypatch):
    for name in ("put", "get"):
        monkeypatch.setattr(f"olmrl.evaluation.transcribe.ray.{name}", lambda page: page)


@pytest.fixture
def encoder(tiny_model):
    return Encoder(EncoderSpec(str(tiny_model)))


def transcribe(encoder, tiny_pages, tmp_path, settings, *answers):
    sources = scan_bench(str(tiny_pages / "heldout"))[:1]
    pool = ToyPool(*answers)
    config = RolloutConfig()
    outcome = write_readings(pool, encoder, config, sources, str(tmp_path), settings)
    target = target_path(str(tmp_path), sources[0], 1)
    return pool, outcome, open(target).read()


def test_an_answer_loses_its_front_matter(encoder, tiny_pages, tmp_path, no_ray):
    settings = TranscribeSettings(longest_side=168)
    _, outcome, text = transcribe(
        encoder, tiny_pages, tmp_path, settings, (UPRIGHT + "moon", "stop")
    )
    assert text == "moon"
    assert (outcome.written, outcome.invalid) == (1, [])


def test_attempts_climb_the_ladder_until_one_is_whole(encoder, tiny_pages, tmp_path, no_ray):
    settings = TranscribeSettings(longest_side=168, temperatures=LADDER)
    pool, outcome, text = transcribe(
        encoder, tiny_pages, tmp_path, settings,
        (UPRIGHT + "cut", "length"), ("no front matter", "stop"), (UPRIGHT + "whole", "stop"),
    )  # fmt: skip
    assert text == "whole"
    assert [s.temperature for _, s, _ in pool.asked] == [0.1, 0.1, 0.2]
    assert len({seeds for _, _, seeds in pool.asked}) == 3
    assert outcome.invalid == []


def test_a_page_that_is_never_whole_is_named(encoder, tiny_pages, tmp_path, no_ray):
    settings = TranscribeSettings(longest_side=168, temperatures=(0.1, 0.5))
    _, outcome, text = transcribe(
        encoder, tiny_pages, tmp_path, settings, ("one", "length"), ("two", "length")
    )
    assert text == "two"
    assert len(outcome.invalid) == 1


def test_a_turned_page_is_turned_counter_clockwise_and_read_again(
    encoder, tiny_pages, tmp_path, no_ray
):
    settings = TranscribeSettings(longest_side=168, temperatures=LADDER, correct_rotation=True)
    pool, _, text = transcribe(
        encoder, tiny_pages, tmp_path, settings,
        (TURNED + "sideways", "stop"), (TURNED + "still", "stop"), (UPRIGHT + "up", "stop"),
    )  # fmt: skip
    first, second, third = (encoder.picture(unpack_block(page)) for page, _, _ in pool.asked)
    assert text == "up"
    assert np.array_equal(second, np.rot90(first))
    assert np.array_equal(third, np.rot90(first, 2))


def test_the_last_valid_answer_counts_when_rotation_never_settles(
    encoder, tiny_pages, tmp_path, no_ray
):
    settings = TranscribeSettings(longest_side=168, temperatures=(0.1, 0.1), correct_rotation=True)
    _, outcome, text = transcribe(
        encoder, tiny_pages, tmp_path, settings, (TURNED + "first", "stop"), ("broken", "stop")
    )
    assert (text, outcome.invalid) == ("first", [])


def test_files_of_an_earlier_call_are_kept(encoder, tiny_pages, tmp_path, no_ray):
    settings = TranscribeSettings(longest_side=168)
    transcribe(encoder, tiny_pages, tmp_path, settings, (UPRIGHT + "old", "stop"))
    pool, outcome, text = transcribe(
        encoder, tiny_pages, tmp_path, settings, ("never asked", "stop")
    )
    assert (text, outcome.kept, pool.asked) == ("old", 1, [])
