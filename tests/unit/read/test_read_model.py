"""Which model `olmrl read` takes, and how it reads: as in its training."""

import pytest
import torch
from data_pdfs import write_pdf

from olmrl.checkpoint.state import CheckpointStore
from olmrl.config import GrpoConfig, SftConfig, dump, load
from olmrl.config.schema import ModelConfig
from olmrl.export.weights import ModelFolder
from olmrl.learner.model import load_policy
from olmrl.read.__main__ import main
from olmrl.read.model import Taught, find_model, taught, window_of

GRPO = [
    *("data.train=pages", "data.longest_side=168", "data.prompt=file:/p.txt"),
    *("data.prompt_order=image_first", "rollout.engine=hf", "rollout.dtype=float32"),
    *("rollout.max_model_len=256", "model.chat={enable_thinking: false}", "model.dtype=float32"),
]


@pytest.fixture
def run(tmp_path, tiny):
    """A run directory with checkpoints of steps 1 to 3, whose scores fall after step 2."""
    config = load(GrpoConfig, None, [f"model.path={tiny}", *GRPO])
    policy = load_policy(ModelConfig(path=tiny, dtype="float32"))
    store = CheckpointStore(tmp_path / "run/checkpoints", keep_last=9)
    for step, score in ((1, 0.1), (2, 0.9), (3, 0.5)):
        with torch.no_grad():
            policy.model.language_model.norm.weight.fill_(float(step))
        store.save(step, {"model": policy.state_dict()}, extra={})
        store.record_score(step, score)
    (tmp_path / "run/config.yaml").write_text(dump(config))
    return tmp_path / "run"


def first_weight(folder):
    """Of the last norm, which the fixture fills with the number of the step."""
    model = ModelFolder(folder)
    (name,) = [n for n in model.entries if n.endswith("model.norm.weight")]
    return float(model.read(name)[0])


def test_a_run_is_read_by_its_best_checkpoint_with_prompt_and_rendering_of_its_training(run):
    said = []
    model = find_model(str(run), None, said.append)
    assert first_weight(model.path) == 2.0
    assert "step 2" in model.title and len(said) == 1
    expected = Taught(
        prompt="file:/p.txt", order="image_first", longest_side=168, engine="hf", dtype="float32",
        chat=(("enable_thinking", False),), window=256, known=True,
    )  # fmt: skip
    assert model.taught == expected
    again = find_model(str(run), None, said.append)
    assert again == model and len(said) == 1, "written once"
    assert find_model(model.path, None).taught == expected, "a model folder says so in its card"


@pytest.mark.parametrize(("which", "step"), [("last", 3), ("best", 2), (1, 1)])
def test_another_checkpoint_can_be_chosen(run, which, step):
    assert first_weight(find_model(str(run), which).path) == step


def test_the_last_weights_are_not_written_twice(run):
    from olmrl.export.hf import export

    export(str(run), str(run / "model"))
    assert find_model(str(run), "last").path == str(run / "model")
    assert find_model(str(run), None).path == str(run / "exported/step-2")


def test_what_cannot_be_read_is_refused_in_a_sentence(run, tiny, tmp_path):
    with pytest.raises(ValueError, match="no checkpoint of step 7; complete: 1, 2, 3"):
        find_model(str(run), 7)
    with pytest.raises(ValueError, match="not a run directory"):
        find_model(tiny, "best")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.yaml").write_text((run / "config.yaml").read_text())
    with pytest.raises(ValueError, match="no complete checkpoint and no model/ yet"):
        find_model(str(empty), None)
    (run / "checkpoints/scores.json").unlink()
    with pytest.raises(ValueError, match="no checkpoint has a score"):
        find_model(str(run), "best")
    assert "step 3" in find_model(str(run), None).title


def test_a_model_that_says_nothing_is_read_by_defaults(tiny):
    assert find_model(tiny, None).taught == Taught()


SFT = "{name: FrontMatterParser}, {name: PDFRenderer, target_longest_image_dim: 900}, "


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("{name: Prompt, prompt: 'file:p'}, {name: InstructUserMessages, prompt_first: true}",
         {"prompt": "file:p"}),
        ("{name: Prompt}, {name: InstructUserMessages}", {"order": "image_first"}),
        ("{name: NewYamlFinetuningPromptWithNoAnchoring}", {"prompt": "olmocr-v4"}),
        ("{name: StaticLengthDocumentAnchoring, target_anchor_text_len: 50}, {name: Prompt}",
         {"anchor_text_len": 50}),
        ("{name: StaticLengthDocumentAnchoring}, {name: NewYamlFinetuningPromptWithNoAnchoring}",
         {"prompt": "olmocr-v4"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["data.pipeline", "data.train"])
def test_an_sft_model_is_read_as_its_steps_asked(steps, expected, where):
    pipeline = f"[{SFT}{steps}]"
    train = "[{root: d}]" if where == "data.pipeline" else f"[{{root: d, pipeline: {pipeline}}}]"
    overrides = ["model.path=m", f"data.train={train}"]
    if where == "data.pipeline":
        overrides.append(f"data.pipeline={pipeline}")
    config = load(SftConfig, None, overrides).model_dump(mode="json")
    assert taught(config) == Taught(longest_side=900, known=True, **expected)


def test_a_model_that_answers_in_json_is_refused():
    steps = "[{name: StaticLengthDocumentAnchoring}, {name: FinetuningPrompt}]"
    config = load(
        SftConfig, None, ["model.path=m", "data.train=[{root: d}]", f"data.pipeline={steps}"]
    )
    with pytest.raises(ValueError, match="answer in JSON"):
        taught(config.model_dump(mode="json"))


def test_the_window_is_never_longer_than_the_model(tiny):
    assert window_of(tiny, 64) == 64
    assert window_of(tiny, 10**9) < 10**9


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--max-model-len", "3"), "leaves no room for an answer in 3; give more"),
        (("--max-tokens", "100000"), "--max-tokens 100000: prompt and answer together have 256"),
        (("--max-model-len", "200", "--max-tokens", "200"), "together have 200 tokens"),
    ],
)
def test_lengths_that_no_page_fits_are_refused_before_engines(run, tmp_path, capsys, words, said):
    write_pdf(tmp_path / "a.pdf")
    command = [str(tmp_path / "a.pdf"), "--model", str(run), "-o", str(tmp_path / "out")]
    command += ["--prompt", "olmrl-v1", *words]
    assert main(command) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
