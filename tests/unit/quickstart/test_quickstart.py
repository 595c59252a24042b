"""The quick start makes what is missing, goes on where it was stopped, and keeps what it made."""

import json

import pytest

from olmrl.quickstart import __main__ as quickstart

SETTINGS = """
seed: 1
pages: --train 2
warm_up: [first.yaml, second.yaml]
grpo: grpo.yaml
small: {pages: --train 1, warm_up: [first.yaml], warm_up_steps: 5, grpo_steps: 3}
"""


CONFIG = """
data:
  train: [{root: data/quickstart/pages/sft}]
  longest_side: 168
  pipeline: [{name: PDFRenderer, target_longest_image_dim: 168}]
"""


GRPO = "model: {path: m}\ndata: {train: bench, longest_side: 168}\nlearner: {use_gpu: false}\n"


@pytest.fixture
def steps(monkeypatch, tmp_path):
    """Titles of the commands that ran; a title put into `stops` is stopped when its turn comes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.yaml").write_text(SETTINGS)
    ran, stops, words = [], [], []

    def step(title, module, arguments):
        ran.append(title)
        words.append(arguments)
        if title in stops:
            raise quickstart.Stopped(title, 130, signalled=True)
        for argument in arguments:
            if argument.startswith("run.dir=data"):
                (tmp_path / argument.removeprefix("run.dir=") / "model").mkdir(parents=True)

    monkeypatch.setattr(quickstart, "step", step)
    for name in ("first", "second"):
        (tmp_path / f"{name}.yaml").write_text(CONFIG)
    (tmp_path / "grpo.yaml").write_text(GRPO)
    return ran, stops, words


def test_a_stopped_quick_start_goes_on_where_it_was(steps, capsys):
    ran, stops, _ = steps
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
    ran, stops, _ = steps
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


def test_a_stopped_training_says_that_it_goes_on(steps, capsys):
    _, stops, _ = steps
    stops.append("GRPO")
    assert quickstart.main(["run.steps=2"]) == 130
    assert "stopped at GRPO; the same command goes on from there" in capsys.readouterr().err


def run_dir(arguments):
    return next(word for word in arguments if word.startswith("run.dir="))


def test_the_next_call_goes_on_with_the_run_that_was_stopped(steps, tmp_path):
    _, stops, words = steps
    stops.append("GRPO")
    assert quickstart.main([]) == 130
    (tmp_path / "runs/quickstart-1").mkdir(parents=True)
    stops.clear()
    assert quickstart.main(["run.steps=9"]) == 0
    assert run_dir(words[-1]) == "run.dir=runs/quickstart-2", "another run was asked for"
    stops.append("GRPO")
    assert quickstart.main([]) == 130
    stops.clear()
    first = words[-1]
    (tmp_path / run_dir(first).removeprefix("run.dir=")).mkdir(parents=True, exist_ok=True)
    assert quickstart.main([]) == 0
    assert words[-1] == first and words[-1][:2] == ["--resume", "auto"]
    assert quickstart.main([]) == 0
    assert run_dir(words[-1]) != run_dir(first)


def test_a_small_one_has_pages_and_models_of_its_own(steps, tmp_path):
    ran, _, words = steps
    assert quickstart.main(["--small"]) == 0
    assert ran == ["Pages", "Model", "SFT warm-up 1", "GRPO"]
    assert words[0][1:4] == ["data/quickstart/small/pages", "--train", "1"]
    pairs = "data.train=[{root: data/quickstart/small/pages/sft}]"
    assert {"run.steps=5", "data.evaluation=[]", pairs} <= set(words[2])
    grpo = {"run.steps=3", "evaluation.every=3", "model.path=data/quickstart/small/warm"}
    assert grpo | {"data.heldout=data/quickstart/small/pages/heldout"} <= set(words[3])
    ran.clear()
    assert quickstart.main([]) == 0
    assert ran[:2] == ["Pages", "Model"] and ran[-1] == "GRPO"


def test_it_ends_with_what_improved_the_report_and_the_next_command(steps, tmp_path, capsys):
    evaluations = tmp_path / "runs/quickstart-1/evaluations"
    assert quickstart.main([]) == 0
    evaluations.mkdir(parents=True)
    for step, rate in ((0, 0.25), (60, 0.5)):
        scores = {"sampled/pass_rate": rate, "greedy/pass_rate": rate + 0.125}
        scores |= {"sampled/pass_rate_error": 0.03 + step / 6000}
        row = json.dumps({"step": step, "scores": scores})
        (evaluations / f"step-{step:06d}.json").write_text(row)
    assert quickstart.result(evaluations.parent)[:3] == [
        "held-out unit tests, sampled: 0.250 -> 0.500 (+0.250 ± 0.100)",  # 2 sqrt(.03^2 + .04^2)
        "held-out unit tests, greedy: 0.375 -> 0.625 (+0.250)",
        f"report: {(evaluations.parent / 'report.html').as_uri()}",
    ]
    assert capsys.readouterr().out.splitlines()[-1].startswith("your own pages: olmrl init ")


CHILD = "import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(60)"


def test_ctrl_c_reaches_a_command_as_a_request_to_save(tmp_path, monkeypatch):
    (tmp_path / "sleeper.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(quickstart.Stopped) as stopped:
        quickstart.step("Sleep", "sleeper", [])
    assert (stopped.value.code, stopped.value.signalled) == (130, True)


def test_pages_have_as_many_image_tokens_for_every_family(tmp_path):
    assert {name: quickstart.scaled(168, name) for name in ("qwen2_vl", "qwen3_5")} == {
        "qwen2_vl": 168,
        "qwen3_5": 192,
    }
    (tmp_path / "sft.yaml").write_text(CONFIG)
    override = quickstart.pipeline_of(str(tmp_path / "sft.yaml"), "qwen3_vl")
    assert override == ('data.pipeline=[{"name": "PDFRenderer", "target_longest_image_dim": 192}]')


def test_a_further_family_has_its_own_models_on_the_same_pages(steps, tmp_path):
    ran, _, _ = steps
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


@pytest.mark.parametrize(
    ("override", "problem", "said"),
    [("run.stps=1", "", "did you mean 'steps'?"), ("run.steps=1", "vllm is old", "vllm is old")],
)
def test_what_grpo_would_refuse_is_refused_before_anything_is_made(
    steps, capsys, monkeypatch, override, problem, said
):
    def check_vllm():
        if problem:
            raise ValueError(problem)

    monkeypatch.setattr("olmrl.preflight.checks.check_vllm", check_vllm)
    assert quickstart.main([override]) == 2
    assert said in capsys.readouterr().err
    assert steps[0] == []
