"""The quick start makes what is missing, goes on where it was stopped, and keeps what it made."""

import pytest

from olmrl.quickstart import __main__ as quickstart

SETTINGS = """
seed: 1
pages: --train 2
warm_up: [first.yaml, second.yaml]
grpo: grpo.yaml
"""


CONFIG = """
data:
  longest_side: 168
  pipeline: [{name: PDFRenderer, target_longest_image_dim: 168}]
"""


@pytest.fixture
def steps(monkeypatch, tmp_path):
    """Titles of the commands that ran; a title put into `stops` is stopped when its turn comes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.yaml").write_text(SETTINGS)
    ran, stops = [], []

    def step(title, module, arguments):
        ran.append(title)
        if title in stops:
            raise quickstart.Stopped(title, 130, signalled=True)
        for argument in arguments:
            if argument.startswith("run.dir=data"):
                (tmp_path / argument.removeprefix("run.dir=") / "model").mkdir(parents=True)

    monkeypatch.setattr(quickstart, "step", step)
    for name in ("first", "second", "grpo"):
        (tmp_path / f"{name}.yaml").write_text(CONFIG)
    return ran, stops


def test_a_stopped_quick_start_goes_on_where_it_was(steps, capsys):
    ran, stops = steps
    stops.append("SFT warm-up 2")
    assert quickstart.main([]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    stops.clear()
    ran.clear()
    assert quickstart.main([]) == 0
    assert ran == ["SFT warm-up 2", "GRPO"]
    ran.clear()
    assert quickstart.main([]) == 0
    assert ran == ["GRPO"]
    assert "Pages and warmed-up model" in capsys.readouterr().out


def test_the_warmed_up_model_is_the_last_one_wherever_the_folder_is_moved(steps, tmp_path):
    assert quickstart.main([]) == 0
    (tmp_path / "data").rename(tmp_path / "moved")
    warm = tmp_path / "moved" / "quickstart" / "warm"
    assert warm.resolve() == tmp_path / "moved" / "quickstart" / "warmup-2" / "model"


def test_fresh_and_changed_settings_make_everything_again(steps, tmp_path):
    ran, stops = steps
    assert quickstart.main([]) == 0
    stops.append("Pages")
    ran.clear()
    assert quickstart.main(["--fresh"]) == 130
    assert ran == ["Pages"] and not list((tmp_path / "data/quickstart").glob("warmup-*"))
    stops.clear()
    assert quickstart.main([]) == 0
    everything = ["Pages", "Model", "SFT warm-up 1", "SFT warm-up 2", "GRPO"]
    assert ran == ["Pages", *everything]
    (tmp_path / "configs/quickstart.yaml").write_text(SETTINGS.replace("seed: 1", "seed: 2"))
    ran.clear()
    assert quickstart.main([]) == 0
    assert ran == everything


def test_a_stopped_training_names_the_command_that_continues_it(steps, capsys):
    _, stops = steps
    stops.append("GRPO")
    assert quickstart.main(["run.steps=2"]) == 130
    error = capsys.readouterr().err
    assert "olmrl.grpo --resume auto --config grpo.yaml run.dir=runs/quickstart-1 run.st" in error


def test_pages_have_as_many_image_tokens_for_every_family(tmp_path):
    assert {name: quickstart.scaled(168, name) for name in ("qwen2_vl", "qwen3_5")} == {
        "qwen2_vl": 168,
        "qwen3_5": 192,
    }
    (tmp_path / "sft.yaml").write_text(CONFIG)
    override = quickstart.pipeline_of(str(tmp_path / "sft.yaml"), "qwen3_vl")
    assert override == ('data.pipeline=[{"name": "PDFRenderer", "target_longest_image_dim": 192}]')


def test_a_further_family_has_its_own_models_on_the_same_pages(steps, tmp_path):
    ran, _ = steps
    assert quickstart.main([]) == 0
    ran.clear()
    assert quickstart.main(["--family", "qwen3_5"]) == 0
    assert ran == [
        "Model of qwen3_5", "SFT warm-up 1 of qwen3_5", "SFT warm-up 2 of qwen3_5", "GRPO"
    ]  # fmt: skip
    folder = tmp_path / "data/quickstart"
    assert (folder / "qwen3_5/warm").resolve() == folder / "qwen3_5/warmup-2/model"
    assert (folder / "warm").resolve() == folder / "warmup-2/model"
    ran.clear()
    assert quickstart.main([]) == 0
    assert ran == ["GRPO"]
