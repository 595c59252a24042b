"""The fuzzing command: inputs repeat by seed and number, and what goes wrong is told and kept."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from fuzzing.record import Part, append
from fuzzing.text_targets import TEXT_PARTS, LatexPart, TarPart


@pytest.mark.parametrize("kind", TEXT_PARTS, ids=lambda kind: kind.name)
def test_an_input_depends_on_seed_and_number_alone(kind, tmp_path):
    one, again, other = (kind(seed, tmp_path, None) for seed in (1, 1, 2))
    made = [one.make(number) for number in range(5)]
    again.make(3)
    assert [again.make(number) for number in range(5)] == made
    assert [other.make(number) for number in range(5)] != made


class Broken(Part):
    name = "broken"
    deadline_s = 0.5
    now = 0.0

    def clock(self):
        return self.now

    def make(self, index):
        return b"input %d" % index

    def targets(self, data):
        yield "slow"
        self.now += 1.0 if data.endswith(b"2") else 0.1
        yield "fails"
        if data.endswith(b"1"):
            raise KeyError("x")


def test_crashes_and_hangs_are_counted_and_their_inputs_kept(tmp_path):
    part = Broken(
        1,
        tmp_path,
    )
    for number in range(4):
        part.one(number)
    row = part.row()
    assert row["inputs"] == 4
    assert row["crashes"] == {"fails: KeyError at test_fuzzing.py:targets": 1}
    assert row["hangs"] == {"slow": 1}
    kept = {path.read_bytes() for path in tmp_path.iterdir() if not path.suffix}
    assert kept == {b"input 1", b"input 2"}
    assert any("KeyError" in path.read_text() for path in tmp_path.glob("*.txt"))


def test_rows_are_added_to_the_results(tmp_path):
    for number in range(2):
        append(tmp_path / "fuzz.json", {"seed": number})
    assert [row["seed"] for row in json.loads((tmp_path / "fuzz.json").read_text())] == [0, 1]


@pytest.mark.parametrize(
    "kind", [k for k in TEXT_PARTS if k is not LatexPart], ids=lambda k: k.name
)
def test_the_first_inputs_do_no_harm(kind, tmp_path):
    part = kind(1, tmp_path / "found", None)
    part.folder.mkdir()
    for number in range(8):
        part.one(number)
    assert part.row()["crashes"] == {} and part.row()["hangs"] == {}


def test_no_member_of_a_tarball_leaves_its_folder(tmp_path):
    part = TarPart(2, tmp_path / "found", None)
    part.folder.mkdir()
    for number in range(30):
        part.one(number)
    assert part.crashes == {}
    assert {path.name for path in tmp_path.iterdir()} == {"found"}
