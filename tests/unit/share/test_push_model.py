"""`checkpoint push`: what is sent, what is refused, and what the card says."""

import json
from pathlib import Path

import pytest
import yaml
from fake_hub import TOKEN, Repo

from olmrl.checkpoint.__main__ import main
from olmrl.export.card import card_config, card_step
from olmrl.share.upload import Item, listing

REPO = "my-org/reader-3b"
LICENCE = ["--licence", "apache-2.0"]


def evaluation(step, rate):
    scores = {"greedy/pass_rate": rate, "greedy/pass_rate_error": 0.02, "greedy/reading": 0.5}
    scores |= {"greedy/category/odd|name.jsonl": 0.5}
    return {"step": step, "scores": scores, "pages": []}


@pytest.fixture
def run(tmp_path, tiny):
    """A finished run, with the tiny model in the place of what it learnt."""
    run = tmp_path / "run"
    (run / "evaluations").mkdir(parents=True)
    config = {
        "run": {"dir": str(run), "seed": 1},
        "model": {"path": "Qwen/Qwen2.5-VL-3B-Instruct", "dtype": "float32"},
        "data": {
            "train": "/home/ada/secret-project/pages",
            "prompt": f"file:{tmp_path / 'mine.txt'}",
            "longest_side": 64,
        },
        "rewards": [{"name": "my:judge", "options": {"api_key": "sk-1", "max_tokens": 9}}],
        "algorithm": {"loss": "bnpo"},
        "rollout": {"group_size": 8},
        "logging": {"wandb_entity": "lovelace-lab"},
        "cluster": {"address": "10.0.0.7:6379"},
    }
    (tmp_path / "mine.txt").write_text("Read it.\n```\nAll of it.\n")
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [{"step": s, "reward/mean": s / 10} for s in range(1, 4)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    steps = [{"step": 1, "pages": [[0, 0, "a::1"], [0, 1, "b::1"]]}, {"step": 2, "pages": []}]
    (run / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in steps))
    for step, rate in ((0, 0.4), (3, 0.6)):
        path = run / "evaluations" / f"step-{step:06d}.json"
        path.write_text(json.dumps(evaluation(step, rate)))
    copy_model(Path(tiny), run / "model")
    (run / "model" / "README.md").write_text("x trained with olmrl (GRPO), step 3. It\n")
    return run


def copy_model(source, target):
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())


def push(run, *more, repo=REPO, licence=LICENCE):
    return main(["push", str(run), repo, *licence, *more])


def test_a_dry_run_shows_card_and_sizes_and_sends_nothing(run, hub, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert push(run, "--dry-run") == 0
    said = capsys.readouterr().out
    assert hub.requests == []
    assert said.startswith(f"{REPO}, a private model: step 3\n")
    assert "license: apache-2.0" in said
    assert "model.safetensors" in said and " MB" in said
    assert said.endswith("dry run: nothing was sent\n")


def test_a_push_sends_the_model_and_its_card_privately(run, hub, capsys):
    assert push(run) == 0
    repo = hub.repos[f"model/{REPO}"]
    assert repo.private
    sent = {name for name in repo.files if name != ".gitattributes"}
    assert sent == {path.name for path in (run / "model").iterdir()}
    for path in (run / "model").iterdir():
        if path.name != "README.md":
            assert repo.files[path.name] == path.read_bytes()
    assert repo.commits == ["first", "step 3"]
    captured = capsys.readouterr()
    assert f"{hub.url}/{REPO}" in captured.out
    assert TOKEN not in captured.out + captured.err


def test_a_second_push_sends_only_what_changed(run, hub, capsys):
    assert push(run) == 0
    sent, commits = len(hub.sent), len(hub.repos[f"model/{REPO}"].commits)
    assert push(run) == 0
    assert len(hub.sent) == sent and len(hub.repos[f"model/{REPO}"].commits) == commits
    count = len(list((run / "model").iterdir()))
    assert f"0 files sent, {count} were there already" in capsys.readouterr().out
    (run / "model" / "generation_config.json").write_text('{"do_sample": false}')
    hub.repos[f"model/{REPO}"].files["model-00001-of-00002.safetensors"] = b"of an earlier push"
    assert push(run) == 0
    assert "1 files sent" in capsys.readouterr().out
    assert "model-00001-of-00002.safetensors" not in hub.repos[f"model/{REPO}"].files
    assert len(hub.sent) == sent


def test_an_upload_that_broke_off_goes_on(run, hub, capsys):
    hub.fail_after = 1
    assert push(run) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"python -m olmrl.checkpoint push: {REPO}: ")
    assert len(error.splitlines()) == 1
    assert set(hub.repos[f"model/{REPO}"].files) == {".gitattributes"}, "half a model is never seen"
    hub.fail_after = None
    first = list(hub.sent)
    assert push(run) == 0
    assert len(hub.sent) == len(set(hub.sent)) and hub.sent[: len(first)] == first


def test_the_card_parses_and_says_how_certain_its_scores_are(run, hub):
    assert push(run, "--dataset", "my-org/pages", "--public") == 0
    assert not hub.repos[f"model/{REPO}"].private
    card = hub.repos[f"model/{REPO}"].files["README.md"].decode()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head == {
        "base_model": "Qwen/Qwen2.5-VL-3B-Instruct",
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "license": "apache-2.0",
        "datasets": ["my-org/pages"],
        "tags": ["ocr", "olmrl", "grpo"],
    }
    # 0.6 +- 1.96 x 0.02
    assert "| unit tests passed (greedy) | 0.400 | 0.600 | 0.561 to 0.639 |" in card
    assert "| similarity of the words (greedy) | 0.500 | 0.500 | - |" in card
    assert "unit tests of odd&#124;name.jsonl" in card
    assert "| different pages trained on | 2 |" in card
    assert "| reward/mean | 0.1 | 0.3 |" in card
    assert card_step(card) == 3
    assert "Read it.\n```\nAll of it." in card


def test_the_card_keeps_what_is_nobodys_business(run, hub):
    assert push(run) == 0
    repo = hub.repos[f"model/{REPO}"]
    card = repo.files["README.md"].decode()
    everything = b"".join(repo.files.values())
    for private in ("secret-project", "sk-1", "10.0.0.7", "lovelace", str(run), TOKEN):
        assert private not in card
        assert private.encode() not in everything
    config = card_config(card)
    assert config["data"]["train"] == "pages"
    assert config["data"]["prompt"] == "file:mine.txt"
    assert config["rewards"][0]["options"] == {"api_key": "...", "max_tokens": 9}


def test_a_configuration_cannot_break_out_of_the_card(run, hub):
    config = yaml.safe_load((run / "config.yaml").read_text())
    hostile = "a\n```\n\n# Free money\n---\nlicense: mit\n" + "x " * 200
    config["rewards"] = [{"name": "my:f", "options": {"say": hostile, "<b>|": "``` y"}}]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert push(run) == 0
    card = hub.repos[f"model/{REPO}"].files["README.md"].decode()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "apache-2.0"
    assert "\n# Free money" not in card
    assert card_config(card)["rewards"][0]["options"] == {"say": hostile, "<b>|": "``` y"}


def spoil(run, what):
    model = run / "model"
    if what == "no model":
        for path in model.iterdir():
            path.unlink()
        model.rmdir()
    elif what == "incomplete":
        (model / "config.json").unlink()
    elif what == "no tokenizer":
        (model / "tokenizer.json").unlink()
    elif what == "no processor":
        for name in ("processor_config.json", "preprocessor_config.json"):
            (model / name).unlink(missing_ok=True)
    elif what == "cut off":
        data = (model / "model.safetensors").read_bytes()
        (model / "model.safetensors").write_bytes(data[: len(data) // 2])
    elif what == "quantised":
        config = json.loads((model / "config.json").read_text())
        config["quantization_config"] = {"quant_method": "awq"}
        (model / "config.json").write_text(json.dumps(config))
    elif what == "link":
        (model / "tokenizer.json").rename(run / "elsewhere.json")
        (model / "tokenizer.json").symlink_to(run / "elsewhere.json")
    elif what in ("a folder", "a lost folder"):
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["model"]["path"] = str(run) if what == "a folder" else "/mnt/gone/model"
        (run / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no model", "has no complete checkpoint"),
        ("incomplete", "is not complete (no config.json)"),
        ("no tokenizer", "has no tokenizer (tokenizer.json)"),
        ("no processor", "no image processor"),
        ("cut off", "model.safetensors"),
        ("quantised", "is quantised (awq); push shares a run's own weights"),
        ("link", "is a link to"),
        ("a folder", "name the base model as on the Hub with --base-model org/name"),
        ("a lost folder", "name the base model as on the Hub with --base-model org/name"),
    ],
)
def test_what_is_not_fit_to_be_shared_is_refused_in_one_sentence(run, hub, capsys, what, message):
    spoil(run, what)
    for more in ([], ["--dry-run"]):
        assert push(run, *more) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1
    assert hub.requests == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--licence: name the one it is shared under"),
        (["--licence", "apache"], "--licence apache: unknown"),
        (["--licence", "other"], "--licence-name and --licence-link"),
        (["--licence", "mit", "--licence-link", "x"], "are for `other`"),
        ([*LICENCE, "--dataset", "pages"], "pages: not a name on the Hub"),
        ([*LICENCE, "--base-model", "../x"], "../x: not a name on the Hub"),
    ],
)
def test_a_push_must_say_what_it_is(run, hub, capsys, words, message):
    assert push(run, *words, licence=[]) == 2
    assert message in (error := capsys.readouterr().err)
    assert len(error.splitlines()) == 1
    assert hub.requests == []


@pytest.mark.parametrize("name", ["reader", "a/b/c", "a/", "/b", "a b/c", "org/..", "org/x.git"])
def test_a_name_that_the_hub_cannot_have_is_refused(run, hub, capsys, name):
    assert push(run, repo=name) == 2
    assert f"{name}: not a name on the Hub" in capsys.readouterr().err


def test_a_base_model_can_be_none(run, hub):
    spoil(run, "a folder")
    assert push(run, "--base-model", "none") == 0
    card = hub.repos[f"model/{REPO}"].files["README.md"].decode()
    assert "base_model" not in yaml.safe_load(card.split("---\n")[1])


@pytest.mark.parametrize(
    ("token", "message"),
    [(None, "HF_TOKEN is not set"), ("hf_wrong", "does not know the token in HF_TOKEN")],
)
def test_without_the_right_token_nothing_happens(run, hub, capsys, monkeypatch, token, message):
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    assert push(run) == 2
    error = capsys.readouterr().err
    assert message in error and (not token or token not in error)
    assert hub.repos == {}


def test_offline_says_so(run, hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert push(run) == 2
    assert "HF_HUB_OFFLINE=1 forbids the network" in capsys.readouterr().err


def test_a_hub_that_cannot_be_reached_is_one_sentence(run, hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert push(run) == 2
    error = capsys.readouterr().err
    assert f"{REPO}: the upload broke off (" in error and error.endswith("command goes on\n")
    assert len(error.splitlines()) == 1


def test_a_token_that_may_not_write_is_told_so(run, hub, capsys):
    hub.may_write = False
    assert push(run) == 2
    assert "may not write there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("private", "files", "more", "message"),
    [
        (False, {}, [], "is public on the Hub; push with --public"),
        (True, {}, ["--public"], "is private on the Hub"),
        (True, {"notes.md": b"mine"}, [], "holds files that olmrl did not push"),
    ],
)
def test_a_repository_of_another_kind_is_left_alone(
    run, hub, capsys, private, files, more, message
):
    hub.repos[f"model/{REPO}"] = Repo(private, dict(files), ["first"])
    assert push(run, *more) == 2
    assert message in capsys.readouterr().err
    assert hub.repos[f"model/{REPO}"].files == files


def test_files_of_ones_own_stay_here(run, hub, capsys):
    (run / "model" / "notes.txt").write_text("call Bob")
    (run / "model" / ".netrc").write_text("password x")
    assert push(run) == 0
    assert "stays here, as it is no part of the model: .netrc, notes.txt" in capsys.readouterr().out
    assert not {"notes.txt", ".netrc"} & set(hub.repos[f"model/{REPO}"].files)


def test_a_running_run_is_not_shared(run, hub, capsys):
    from olmrl.run.lock import RunLock

    with RunLock(run):
        assert push(run) == 2
    assert "another run is using it" in capsys.readouterr().err


def test_sizes_are_said_for_people():
    items = [Item("a", b"x" * 1500), Item("long name", b"x")]
    assert listing(items) == [
        "  a              1.5 kB", "  long name     1 bytes", "2 files, 1.5 kB",
    ]  # fmt: skip
