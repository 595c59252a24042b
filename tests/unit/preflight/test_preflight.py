"""What is said before Ray starts: shared pages, tokenizers, shapes that nobody knows."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from reportlab.pdfgen.canvas import Canvas

from olmrl.__main__ import main
from olmrl.config import GrpoConfig, SftConfig
from olmrl.models.files import check_tokenizer
from olmrl.preflight import checks
from olmrl.preflight.overlap import remarks
from olmrl.run.command import _absolute

ON = ["--dry-run", "--cluster", "1x8xH100-80G", "learner.use_gpu=true"]


def draw(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = Canvas(str(path), invariant=True)
    for line in text.split("|"):
        canvas.drawString(72, 720, line)
        canvas.showPage()
    canvas.save()


def bench(folder, **pages):
    """A bench folder; a value is the text of a PDF, `|` between its pages, all of them tested."""
    rows = []
    for name, text in pages.items():
        draw(folder / f"pdfs/{name}.pdf", text)
        for number, _ in enumerate(text.split("|"), 1):
            row = {"pdf": f"{name}.pdf", "page": number, "id": f"{name}{number}"}
            rows.append(row | {"type": "present", "text": "x"})
    (folder / "tests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def grpo(train, heldout):
    data = {"train": str(train), "heldout": str(heldout)}
    return GrpoConfig.model_validate({"model": {"path": "Qwen/Qwen3.5-0.8B"}, "data": data})


def test_other_pages_are_no_remark(tmp_path):
    train = bench(tmp_path / "a", one="some text", two="words")
    held = bench(tmp_path / "b", one="same name", two="other text")
    assert list(remarks(grpo(train, held))) == []


def test_a_folder_that_trains_and_tests_is_told(tmp_path):
    folder = bench(tmp_path / "a", one="x", two="y")
    (tmp_path / "link").symlink_to(folder)
    for held in (folder, tmp_path / "link", f"{folder}/"):
        assert list(remarks(grpo(folder, held))) == [
            "data.heldout: all of its 2 pages are trained on as well (the first is one.pdf::1); "
            "scores on them say nothing of new pages"
        ]


def test_copies_are_told_by_content_page_by_page(tmp_path):
    train = bench(tmp_path / "a", one="first|second", two="b")
    held = bench(tmp_path / "b", new="c")
    shutil.copy(train / "pdfs/one.pdf", held / "pdfs/renamed.pdf")
    rows = [json.loads(line) for line in (held / "tests.jsonl").read_text().splitlines()]
    rows += [{"pdf": "renamed.pdf", "page": 2, "id": "r", "type": "present", "text": "x"}]
    (held / "tests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = remarks(grpo(train, held))
    assert found.startswith(
        "data.heldout: 1 of its 2 pages are trained on as well (the first is re"
    )
    only_first = [row for row in map(json.loads, (train / "tests.jsonl").read_text().splitlines())
                  if (row["pdf"], row["page"]) != ("one.pdf", 2)]  # fmt: skip
    (train / "tests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in only_first))
    assert list(remarks(grpo(train, held))) == [], "another page of the document is another page"


def test_the_sets_of_sft_are_compared_too(tmp_path):
    for folder, text in (("pairs", "a"), ("held", "b")):
        draw(tmp_path / folder / "p.pdf", text)
        (tmp_path / folder / "p.md").write_text("x")
    shutil.copy(tmp_path / "pairs/p.pdf", tmp_path / "held/copy.pdf")
    (tmp_path / "held/copy.md").write_text("x")
    folder = bench(tmp_path / "bench", q="c")
    os.symlink(tmp_path / "pairs/p.pdf", folder / "pdfs/q2.pdf")
    with (folder / "tests.jsonl").open("a") as rows:
        row = {"pdf": "q2.pdf", "page": 1, "id": "l", "type": "present", "text": "x"}
        rows.write(json.dumps(row) + "\n")
    config = SftConfig.model_validate(
        {
            "model": {"path": "m/m"},
            "data": {
                "train": [{"root": str(tmp_path / "pairs")}],
                "evaluation": [{"root": str(tmp_path / "held")}],
            },
            "evaluation": {"generate": {"bench": str(folder)}},
        }
    )
    assert [text.partition(" pages")[0] for text in remarks(config)] == [
        "data.evaluation[0].root: 1 of its 2", "evaluation.generate.bench: 1 of its 2",
    ]  # fmt: skip


def test_folders_that_cannot_be_read_are_left_to_the_checks(tmp_path):
    folder = bench(tmp_path / "a", one="x")
    (folder / "pdfs/one.pdf").unlink()
    assert list(remarks(grpo(folder, "/nowhere"))) == []
    assert list(remarks(grpo("s3://box/a", folder))) == []
    assert len(list(remarks(grpo(folder, folder)))) == 1


def write_config(tmp_path, **data):
    values = {"model": {"path": "Qwen/Qwen3.5-0.8B"}, "data": data, "run": {"dir": "runs/x"}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))


def test_a_dry_run_warns_and_goes_on(tmp_path, monkeypatch, capsys):
    bench(tmp_path / "pages", one="x")
    write_config(tmp_path, train="pages", heldout="pages")
    monkeypatch.chdir(tmp_path)
    assert main(["grpo", "--config", "c.yaml", *ON]) == 0
    out = capsys.readouterr().out
    assert out.startswith("FITS on 1x8xH100-80G")
    assert "\nwarning: data.heldout: all of its 1 pages are trained on as well" in out


def test_a_model_that_nobody_here_knows_is_not_said_to_fit(tmp_path, monkeypatch, capsys):
    bench(tmp_path / "pages", one="x")
    write_config(tmp_path, train="pages")
    monkeypatch.chdir(tmp_path)
    words = ["grpo", "--config", "c.yaml", *ON, "model.path=some-org/reader"]
    assert main(words) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("NOT JUDGED on 1x8xH100-80G: ")
    assert "the shape of some-org/reader is not known here" in first
    # once its config.json has been fetched, the shape is known without a network
    place = tmp_path / "hub/models--some-org--reader"
    (place / "snapshots/abc").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs/main").write_text("abc")
    from olmrl.models.registry import FAMILIES

    (_, config), *_ = FAMILIES["qwen2_5_vl"].published.items()
    (place / "snapshots/abc/config.json").write_text(json.dumps(config))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    main(words)
    assert "not known" not in capsys.readouterr().out


def test_the_bench_of_an_sft_run_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bench").mkdir()
    values = {"model": {"path": "m/m"}, "data": {"train": [{"root": "a"}]}}
    values["evaluation"] = {"generate": {"bench": "bench"}}
    config = _absolute(SftConfig.model_validate(values))
    assert config.evaluation.generate.bench == str(tmp_path / "bench")


def spoiled(tiny, tmp_path, change):
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    change(folder)
    return str(folder)


def rename_token(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = Path(folder) / name
        path.write_text(path.read_text().replace("<|image_pad|>", "<|picture|>"))


def move_image_id(folder):
    path = Path(folder) / "config.json"
    config = json.loads(path.read_text())
    config["image_token_id"] += 1
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizer.json: cannot be r"),
        (rename_token, "its tokenizer lacks the token <|image_pad|>"),
        (move_image_id, "tokenizer and config.json disagree on the id of <|image_pad|>"),
    ],
)
def test_a_tokenizer_of_another_model_is_refused(tiny, tmp_path, change, message):
    check_tokenizer(tiny)
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        check_tokenizer(spoiled(tiny, tmp_path, change))


ODD_MODELS = ["hf://a/b", "https://h/x", "Qwen/Qwen2.5-VL-7B-Instruct ", "a/b/c", "loop/x", "file"]


@pytest.mark.parametrize("path", ODD_MODELS)
def test_a_model_is_a_folder_or_a_name_on_the_hub(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").mkdir()
    os.symlink("x", tmp_path / "loop/x")
    (tmp_path / "file").write_text("")
    config = SftConfig(model={"path": path}, data={"train": [{"root": "x"}]})
    [said] = checks.model(config, None)
    assert said.startswith(f"model.path: {path}: ")


@pytest.mark.parametrize("target", ["s3://bucket/run", "gs://bucket/run", "nosuch://x"])
def test_a_run_has_a_folder_of_this_machine(target):
    config = SftConfig(run={"dir": target}, model={"path": "m"}, data={"train": [{"root": "x"}]})
    assert any(
        "must be a folder of this machine" in said for said in checks.run_folder(config, None)
    )


def test_what_a_run_remembers_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    data = {"train": [{"root": "x"}], "cache_dir": str(tmp_path / "file/cache")}
    config = SftConfig(run={"dir": str(tmp_path / "run")}, model={"path": "m"}, data=data)
    [said] = checks.run_folder(config, None)
    assert said.startswith("data.cache_dir: ") and "is a file" in said


def pairs(folder, count, text="Words.", pages=1):
    for number in range(count):
        draw(folder / f"{number:03}.pdf", "|".join(["a page"] * pages))
        (folder / f"{number:03}.md").write_text(text)
    return folder


def sft(folder):
    data = {"train": [{"root": str(folder)}]}
    return SftConfig.model_validate({"model": {"path": "m/m"}, "data": data})


@pytest.mark.parametrize(
    ("count", "text", "pages", "said"),
    [
        (3, "Words.", 2, "3 of 3 page pairs cannot be used, more than data.max_bad_fraction=0.05"),
        (2, "", 1, "2 of 2 page pairs cannot be used"),
        (2, "---\nlanguage: en\nA page", 1, "front matter is missing or is not a YAML mapping"),
        (150, "---\n", 1, "none of 50 page pairs can be used; the first: "),
    ],
)
def test_pairs_that_cannot_be_used_are_told_before_ray(tmp_path, count, text, pages, said):
    (problem,) = checks.pages(sft(pairs(tmp_path / "p", count, text, pages)), None)
    assert said in problem and "000.pdf, page 1: " in problem


def test_usable_pairs_are_no_problem_and_few_bad_ones_among_many_are_left_to_the_run(tmp_path):
    folder = pairs(tmp_path / "p", 90)
    assert list(checks.pages(sft(folder), None)) == []
    (folder / "000.md").write_text("---\n")
    assert list(checks.pages(sft(folder), None)) == []
