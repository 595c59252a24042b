"""The command line: each verb does its work, and mistakes end in one sentence."""

import pytest
from test_hf import make_run

from olmrl.checkpoint.__main__ import main
from olmrl.export.weights import ModelFolder


def test_hf_then_soup_then_fp8(tmp_path, tiny, capsys):
    make_run(tmp_path / "run", tiny, steps=(1, 2))
    for step in ("1", "2"):
        assert main(["hf", str(tmp_path / "run"), str(tmp_path / step), "--step", step]) == 0
    models = [str(tmp_path / "1"), str(tmp_path / "2")]
    assert main(["soup", *models, str(tmp_path / "s"), "--weights", "0.5", "0.5"]) == 0
    assert main(["fp8", str(tmp_path / "s"), str(tmp_path / "q")]) == 0
    assert "quantization_config" in ModelFolder(tmp_path / "q").config
    printed = capsys.readouterr().out
    assert "step 1 of" in printed
    assert "average of 2 models" in printed
    assert "w8a8_dynamic: " in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hf", "nowhere", "out"], "nowhere: not a run directory"),
        (["soup", "a", "a", "out"], "a: not a model folder (no config.json)"),
        (["fp8", "nowhere", "out"], "nowhere: not a model folder"),
        (["parity", "nowhere", "--pages", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_explained(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_everything_that_is_wrong_is_named_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["soup", "a", "b", "out", "--weights", "1"]) == 2
    assert capsys.readouterr().err.splitlines()[1:] == [
        "  - a: not a model folder (no config.json)",
        "  - b: not a model folder (no config.json)",
        "  - soup: 1 weights for 2 models",
    ]
