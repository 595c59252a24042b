"""The command line: each verb does its work, and mistakes end in one sentence."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from safetensors.torch import load_file, save_file
from test_hf import make_run

from olmrl.checkpoint.__main__ import main
from olmrl.export.weights import ModelFolder
from olmrl.synth.pages import write_data_set


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
        (["parity", "org/model", "--pages", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_explained(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_a_name_on_the_hub_that_cannot_be_fetched_is_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert main(["parity", "nobody/nothing", "--pages", str(tmp_path)]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "nobody/nothing: no such folder here; as a name on the Hub it was not fetched" in error


def test_everything_that_is_wrong_is_named_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["soup", "a", "b", "out", "--weights", "1"]) == 2
    assert capsys.readouterr().err.splitlines()[1:] == [
        "  - a: not a model folder (no config.json)",
        "  - b: not a model folder (no config.json)",
        "  - --weights: 1 weights for 2 models",
    ]


def changed(tiny, out, **files):
    """The tiny model with other files; None removes one."""
    shutil.copytree(tiny, out)
    for name, text in files.items():
        path = out / f"{name}.json"
        path.unlink() if text is None else path.write_text(text)
    return str(out)


def said(capsys, *arguments):
    assert main(list(map(str, arguments))) == 2
    return capsys.readouterr().err


def test_a_new_model_never_lacks_its_tokenizer(tmp_path, tiny, capsys):
    mute = changed(tiny, tmp_path / "mute", tokenizer=None)
    assert "mute: has no tokenizer.json" in said(capsys, "soup", mute, tiny, tmp_path / "out")
    assert "mute: has no tokenizer.json" in said(capsys, "fp8", mute, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_models_of_other_kinds_are_not_averaged(tmp_path, tiny, capsys):
    tokenizer = json.loads(Path(tiny, "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["new"] = tokenizer["model"]["vocab"].popitem()[1]
    other = changed(tiny, tmp_path / "other", tokenizer=json.dumps(tokenizer))
    odd = changed(tiny, tmp_path / "odd", tokenizer="{}")
    llama = changed(tiny, tmp_path / "llama", config='{"model_type": "llama"}')
    listed = changed(tiny, tmp_path / "listed", config="[1]")
    shutil.copytree(tiny, tmp_path / "tiny")
    twin = str(tmp_path / "tiny")
    out = tmp_path / "out"
    assert "other: its tokenizer has other tokens than" in said(capsys, "soup", tiny, other, out)
    assert "tokenizer.json: damaged (no vocabulary)" in said(capsys, "soup", tiny, odd, out)
    assert "llama: its model_type is llama, that of" in said(capsys, "soup", tiny, llama, out)
    assert "config.json: damaged (holds a list" in said(capsys, "soup", listed, tiny, out)
    assert "tiny/: is named twice" in said(capsys, "soup", twin, twin + "/", out)
    assert "at least two models, and a new folder after them" in said(capsys, "soup", tiny, out)
    assert not out.exists()


def test_a_model_that_diverged_is_neither_averaged_nor_rounded(tmp_path, tiny, capsys):
    nan = changed(tiny, tmp_path / "nan")
    tensors = load_file(tmp_path / "nan/model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, tmp_path / "nan/model.safetensors")
    for words in (["soup", tiny, nan], ["fp8", nan]):
        assert "model.norm.weight holds NaN" in said(capsys, *words, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_goes_to_a_folder_of_its_own(tmp_path, tiny, capsys):
    make_run(tmp_path / "run", tiny, steps=(1,))
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    for out, problem in {
        "run": "run: is not empty (it holds ",
        "file": "file is a file, not a folder",
        "file/a/b": "file is a file, not a folder",
        "loop": "loop is a link to nothing",
    }.items():
        for words in (["hf", tmp_path / "run"], ["soup", tiny, tiny], ["fp8", tiny]):
            assert problem in said(capsys, *words, tmp_path / out)


def test_bad_pages_are_left_out_and_told(tmp_path, tiny, capsys):
    write_data_set(str(tmp_path), train=0, heldout=0, sft=0, clean=2, seed=1)
    pages = tmp_path / "sft_clean"
    (pages / "bad.pdf").write_text("no PDF")
    (pages / "bad.md").write_text("Text.")
    small = ["--longest-side", "112", "--max-tokens", "8"]
    assert main(["fp8", str(tiny), str(tmp_path / "out"), "--pages", str(pages), *small]) == 0
    printed = capsys.readouterr().out.replace("\n", "")
    assert "bad.pdf, page 1: not a PDF" in printed and "1 of 3 pages left out" in printed
    for path in pages.glob("*.pdf"):
        path.write_text("no PDF")
    words = ["fp8", tiny, tmp_path / "o", "--pages", pages, *small]
    assert "sft_clean: no page can be used; the first: " in said(capsys, *words)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("checkpoints/scores.json", "[1]", "scores.json: damaged (holds a list, not an object)"),
        ("checkpoints/scores.json", '{"1": "x"}', "scores.json: damaged (could not convert"),
        ("config.yaml", "model: {path: [7]}", "config.yaml: model.path is [7], must be text"),
        ("evaluations/step-000001.json", "[1", "step-000001.json: damaged (Expecting"),
        ("evaluations/step-000001.json", '{"step": 1}', "damaged (no step, or no scores)"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(tmp_path, tiny, capsys, file, text, message):
    make_run(tmp_path / "run", tiny, steps=(1,))
    (tmp_path / "run" / file).parent.mkdir(exist_ok=True)
    (tmp_path / "run" / file).write_text(text)
    best = ["--best"] if "scores" in file else []
    assert message in said(capsys, "hf", tmp_path / "run", tmp_path / "out", *best)
