"""The folder of a call that makes pages: one call at a time, and nothing of others is replaced."""

import pytest

from olmrl.synth.making.claim import MADE, claim, outside


def test_a_folder_goes_on_with_the_same_command(tmp_path):
    out = tmp_path / "new" / "out"
    for _ in range(2):
        with claim(str(out), "from-html") as work:
            assert work == out / "work"
            (out / "bench").mkdir(exist_ok=True)


@pytest.mark.parametrize("name", MADE)
def test_what_others_made_is_not_replaced(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=f"{name}: is there already and would be replaced"):
        claim(str(tmp_path), "from-html").__enter__()
    assert [path.name for path in tmp_path.rglob("*.txt")] == ["mine.txt"]
    assert len(list(tmp_path.rglob("*"))) == 2


def test_other_files_of_the_user_may_lie_beside(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with claim(str(tmp_path), "from-html"):
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_stays_with_its_command(tmp_path):
    with claim(str(tmp_path), "from-html"):
        pass
    with pytest.raises(ValueError, match="was begun by from-html; give from-docs another folder"):
        claim(str(tmp_path), "from-docs").__enter__()


def test_two_at_once_are_refused(tmp_path):
    with (
        claim(str(tmp_path), "from-html"),
        pytest.raises(ValueError, match="another process is working in this folder"),
    ):
        claim(str(tmp_path), "from-html").__enter__()


def test_a_call_that_was_killed_before_it_left_its_mark_is_no_obstacle(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "lock").touch()
    with claim(str(tmp_path), "from-html"):
        pass


def test_a_damaged_mark_says_what_to_delete(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "made_by.json").write_text("[1")
    with pytest.raises(ValueError, match=r"made_by\.json: damaged; delete"):
        claim(str(tmp_path), "from-html").__enter__()


def test_what_a_call_made_is_no_source(tmp_path, monkeypatch):
    inside = ["out/a.html", "out/bench/deep/b.html", "link/c.html"]
    outer = ["a.html", "out2/b.html", "s3://out/c.html"]
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    monkeypatch.chdir(tmp_path)
    assert outside("out", inside + outer) == outer
    assert outside(f"{tmp_path}/out/", [f"{tmp_path}/{p}" for p in inside]) == []
