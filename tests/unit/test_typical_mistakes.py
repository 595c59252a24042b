"""Typical mistakes that people make on their first day: what is said, and that nothing is loaded.

All command lines run in one process that loads neither Ray nor torch: whoever mistypes a key need
not wait for them. Each ends with olmrl's own sentence, which names the key or file and what to do.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from reportlab.pdfgen.canvas import Canvas
from safetensors.numpy import save_file

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "ray", "pandas", "wandb", "matplotlib", "vllm")
GRPO = ["grpo", "--config", "grpo.yaml"]
SFT = ["sft", "--config", "sft.yaml"]
DRY = [*GRPO, "--dry-run"]
INIT = ["--data", "pairs", "--model", "qwen3_vl", "--hardware", "8xH100"]
PROMPT = "{name: Prompt, prompt: 'file:none.txt'}"
ALL = (
    "{name: FrontMatterParser}, {name: PDFRenderer}, {name: Prompt}, "
    "{name: FrontMatterOutputFormat}, {name: InstructUserMessages}, {name: Tokenizer}"
)
STEPS = "{name: FrontMatterParser}, {name: PDFRenderer}, {name: Prompt}"

MISTAKES = {
    "a misspelt command": (["grpoo"], 2, "did you mean 'grpo'?"),
    "a misspelt verb": (["mix", "rendr"], 2, "did you mean 'render'?"),
    "no configuration file": (["grpo", "--config", "no.yaml"], 2, "no.yaml: cannot be read"),
    "a key of another name": ([*GRPO, "data.trian=x"], 2, "did you mean 'train'?"),
    "a key after a flag": ([*GRPO, "--resume", "auto", "lerner.lr=1"], 2, "did you mean 'learner'"),
    "a word for a number": ([*GRPO, "run.steps=many"], 2, "run.steps: "),
    "a number out of range": ([*GRPO, "rollout.group_size=0"], 2, "rollout.group_size: "),
    "an override without =": ([*GRPO, "run.steps"], 2, "have the form section.key=value"),
    "an SFT configuration for GRPO": (["grpo", "--config", "sft.yaml"], 2, "of `olmrl sft`, not"),
    "a GRPO configuration for SFT": (["sft", "--config", "rl.yaml"], 2, "of `olmrl grpo`, not"),
    "a configuration of olmocr": (["sft", "--config", "olmocr.yaml"], 2, "olmrl.config convert"),
    "a configuration without --config": (["grpo", "grpo.yaml"], 2, "given as --config grpo.yaml"),
    "a key of another section": (
        [*GRPO, "learner.lr=1e-5"], 2, "did you mean 'learner.optimizer.lr'?",
    ),
    "a key without its sections": ([*GRPO, "group_size=4"], 2, "mean 'rollout.group_size'?"),
    "a folder for a list of folders": ([*SFT, "data.train=pairs"], 2, "a list, as [{root: ...}],"),
    "folders for page sets": ([*SFT, "data.train=[pairs]"], 2, "as {root: ...}, got 'pairs'\n"),
    "a name for a reward": ([*GRPO, "rewards=[bench]"], 2, "as {name: ...}, got 'bench'\n"),
    "a name for a model": ([*GRPO, "model=Qwen/Qwen3"], 2, "as {path: ...}, got 'Qwen/Qwen3'\n"),
    "a file for a model": ([*GRPO, "model.path=grpo.yaml"], 2, "grpo.yaml: is a file, not a model"),
    "a file for the run": ([*GRPO, "run.dir=grpo.yaml"], 2, "grpo.yaml is a file, not a folder"),
    "a folder below a file": ([*GRPO, "run.dir=grpo.yaml/a"], 2, "grpo.yaml is a file, not a f"),
    "a plan without --dry-run": ([*GRPO, "--cluster", "8xH100"], 2, "only plans, with --dry-run"),
    "broken YAML": (["sft", "--config", "broken.yaml"], 2, "broken.yaml, line 3"),
    "no training pages": ([*GRPO, "data.train=/no"], 2, "data.train: /no: no such folder"),
    "no held-out pages": ([*GRPO, "data.heldout=/no"], 2, "data.heldout: /no: no such folder"),
    "no SFT pages": ([*SFT, "data.train=[{root: no}]"], 2, "data.train[0].root: no: no such fold"),
    "page pairs for GRPO": ([*GRPO, "data.train=pairs"], 2, "`olmrl synth tests"),
    "a bench without tests": ([*GRPO, "data.train=untested"], 2, "untested"),
    "a folder without pairs": ([*SFT, "data.train=[{root: bench}]"], 2, "no page pair X.pdf + X.m"),
    "tests of lost PDFs": ([*GRPO, "data.train=lost"], 2, "1 of 1 pages cannot be used"),
    "a broken row of tests": ([*GRPO, "data.train=bad_row"], 2, "tests.jsonl, line 1"),
    "no model folder": ([*GRPO, "model.path=./no"], 2, "model.path: ./no: no such folder"),
    "a path for a Hub name": ([*GRPO, "model.path=a/b/c"], 2, "model.path: a/b/c: no such folder"),
    "a folder without a model": ([*GRPO, "model.path=./pairs"], 2, "has neither model.safetensors"),
    "an adapter for a model": ([*GRPO, "model.path=./adapter"], 2, "holds an adapter"),
    "weights in Git LFS": ([*GRPO, "model.path=./pointer"], 2, "Git LFS pointer"),
    "a model of another family": ([*GRPO, "model.path=./other"], 2, "'llama'"),
    "an unknown reward": ([*GRPO, "rewards=[{name: bnech}]"], 2, "did you mean 'bench'?"),
    "an unknown option of a reward": (
        [*GRPO, "rewards=[{name: bench, options: {avrage: macro}}]"], 2, "did you mean 'average'?",
    ),
    "a reward that is nowhere": ([*GRPO, "rewards=[{name: 'mine:f'}]"], 2, "cannot import 'mine'"),
    "a loss that is nowhere": ([*GRPO, "algorithm.loss=mine:F"], 2, "mine:F: no module mine"),
    "an option of a loss that has none": (
        [*GRPO, "algorithm.loss_options={beta: 1}"], 2, "loss 'bnpo' has no options, got 'beta'",
    ),
    "a loss that is no loss": ([*GRPO, "algorithm.loss=json:loads"], 2, "loads is not a cl"),
    "a transport between GPUs on a CPU": ([*GRPO, "weight_sync.transport=nccl"], 2, "on GPUs; use"),
    "a transport that is nowhere": ([*GRPO, "weight_sync.transport=mine:T"], 2, "T: no module"),
    "a model without a tokenizer": ([*GRPO, "model.path=./mute"], 2, "mute: has no tokenizer.json"),
    "a shortened option": ([*GRPO, "--dry"], 2, "unrecognized arguments: --dry"),
    "a push without a licence": (["checkpoint", "push", "run", "a/b"], 2, "--licence: name"),
    "a push of nothing": (["checkpoint", "push", "no", "a/b"], 2, "no: not a run directory"),
    "a push to a bad name": (
        ["checkpoint", "push", "no", "org", "--dataset", "x"], 2,
        ("no: not a run directory", "org: not a name on the Hub", "--licence: name the one", "HF_",
         "x: not a name on the Hub"),
    ),
    "a push of no data set": (
        ["mix", "hub-push", "no", "org", "--stats", "s", "--licence", "mit"], 2,
        ("no: no such folder", "org: not a name on the Hub", "--stats s: has no stats.json"),
    ),
    "a data set of nothing": (
        ["mix", "hub-package", "--processed-dir", "no", "--subset", "a/b", "--split", "train",
         "--output-dir", "hf://datasets/a/b", "--pdf-root", "pdfs"], 2,
        ("--processed-dir no: no such folder", "--subset 'a/b'", "nothing is written to the Hub",
         "--pdf-root pdfs: no such folder"),
    ),
    "a soup of nothing": (
        ["checkpoint", "soup", "no", "pointer", "mute", "--weights", "1", "2", "3"], 2,
        ("no: not a model folder", "3 weights for 2 models", "mute: already holds a model"),
    ),
    "an 8-bit copy of nothing": (
        ["checkpoint", "fp8", "pairs", "other", "--recipe", "kv8", "--prompt", "v9"], 2,
        ("pairs: not a model folder", "other: already holds", "give it --pages", "prompt 'v9'"),
    ),
    "a parity of nothing": (
        ["checkpoint", "parity", "./no", "--pages", "none", "--prompt", "v9"], 2,
        ("./no: no such folder", "--pages none: no such folder", "prompt 'v9'"),
    ),
    "an export over a model": (
        ["checkpoint", "hf", "run", "other", "--step", "3"], 2,
        ("other: already holds a model", "step 3"),
    ),
    "a reading of nothing": (
        ["read", "no.pdf", "none.pdf", "--model", "./no", "-o", "grpo.yaml", "--prompt", "v9",
         "--temperature", "-1", "--price-per-hour", "nan", "--kv-cache-gb", "0"], 2,
        ("no.pdf: no such file", "none.pdf: no such file", "--model ./no: no such folder",
         "--out grpo.yaml is a file", "prompt 'v9'", "--temperature is -1", "--price-per-hour is",
         "--kv-cache-gb is 0"),
    ),
    "a reading by no server": (
        ["read", "pairs", "--model", "/no/matter", "-o", "o", "--base-url", "host:8000"], 2,
        "--base-url host:8000: must begin with http",
    ),
    "a checkpoint of no run": (
        ["bench", "run", "bench", "--model", "other", "--checkpoint", "best", "--repeats", "0"], 2,
        ("--checkpoint: other is not a run directory", "--repeats is 0"),
    ),
    "a score of nothing": (
        ["bench", "score", "bench", "--candidate", "a", "--files", "[", "--json", "pairs"], 2,
        ("a is not a candidate folder", "--files '['", "--json pairs: is a folder"),
    ),
    "two comparisons of nothing": (
        ["bench", "compare", "bench", "--candidate", "a", "--against", "b"], 2,
        ("a is not a candidate folder", "b is not a candidate folder"),
    ),
    "a conversion of nothing": (
        ["config", "convert", "none.yaml", "-o", "grpo.yaml"], 2,
        ("grpo.yaml: already exists", "none.yaml: No such file"),
    ),
    "an unknown prompt": ([*GRPO, "data.prompt=v9"], 2, "allowed: olmrl-v1, olmocr-v4"),
    "no prompt file": ([*SFT, f"data.pipeline=[{PROMPT}]"], 2, "none.txt: cannot read it"),
    "a step that lacks another": ([*SFT, f"data.pipeline=[{STEPS}]"], 2, "no step sets the exam"),
    "an unknown schedule": ([*GRPO, "learner.optimizer.schedule=cosin"], 2, "'cosine', 'cosine_wi"),
    "a warm-up that does not happen": (
        [*GRPO, "learner.optimizer={schedule: constant, warmup_steps: 3}"], 2, "constant_with_warm",
    ),
    "more ranks than cores": ([*GRPO, "learner.workers=4096"], 2, "learner.workers: 4096 ranks"),
    "GPUs where there are none": ([*DRY, "learner.use_gpu=true"], 2, "the run needs 2 GPUs"),
    "an unknown GPU": ([*DRY, "--cluster", "1x8xH900-80G"], 2, "GPU H900 is unknown; allowed"),
    "a model that is too large": (
        [*DRY, "--cluster", "1x1x4090-24G", "learner.use_gpu=true", "rollout.colocate=true",
         "model.path=Qwen/Qwen2.5-VL-7B-Instruct"], 2, "it fits with learner.cpu_offload",
    ),
    "a cluster that is too small": (
        [*DRY, "--cluster", "1x1x4090-24G", "learner.use_gpu=true",
         "model.path=Qwen/Qwen2.5-VL-7B-Instruct"], 2, "configs/grpo/qwen3_1gpu_24gb_colocated",
    ),
    "a run that is no run": (["report", "pairs"], 2, "pairs: not a run directory"),
    "a replay of nothing": (["grpo", "--replay", "no", "--step", "1"], 2, "not a run directory"),
    "a checkpoint of nothing": (["checkpoint", "hf", "no", "out"], 2, "no: not a run directory"),
    "a PDF that is not there": (["read", "no.pdf", "--model", "m", "-o", "o"], 2, "no such file"),
    "no candidate": (["bench", "score", "bench", "--candidate", "a"], 2, "bench has none"),
    "a machine that is none": (
        ["init", "new", "--data", "pairs", "--model", "qwen3_vl", "--hardware", "banana"], 2,
        "--hardware banana: 'banana' is not valid; write auto, cpu or 2x8xH100",
    ),
    "a GPU that is none": (
        ["init", "new", "--data", "pairs", "--model", "qwen3_vl", "--hardware", "8xH900"], 2,
        "--hardware 8xH900: GPU H900 is unknown",
    ),
    "nothing for a folder": (["init", "", *INIT], 2, "argument DIR: '' is empty"),
    "nothing for a model": (["read", "pairs", "--model", " ", "-o", "o"], 2, "--model: ' ' is emp"),
    "a file to read by": (
        ["read", "pairs", "--model", "grpo.yaml", "-o", "o"], 2, "--model grpo.yaml: is a file",
    ),
    "a file to begin with": (
        ["init", "new", "--data", "pairs", "--model", "grpo.yaml"], 2, "--model grpo.yaml: is a fi",
    ),
    "one file for two reports": (["report", "run", "run", "-o", "a.html"], 2, "-o: every report"),
    "a file of a served report": (["report", "run", "--serve", "-o", "a.html"], 2, "-o: --serve"),
    "fewer pages than none": (["synth", "pages", "o", "--train", "-1"], 2, "train is -1"),
    "a share that is no number": (
        ["mix", "sample", "pairs", "o", "--spam-share", "nan"], 2, "nan is not a number from 0 to",
    ),
    "a temperature below zero": (
        ["mix", "clean", "pairs", "o", "--temperature", "-1"], 2, "-1 is not a number of at",
    ),
    "a port that is none": (["report", "run", "--port", "70000"], 2, "from 0 to 65535"),
    "a list that is none": (["mix", "sample", "a.bin", "o"], 2, "a.bin: not a text file with a p"),
    "a language that is none": (
        ["mix", "sample", "pairs", "o", "--languages=-1"], 2, "--languages '-1': must be two",
    ),
    "answers without their pages": (
        ["mix", "openai-collect", "pairs", "no", "o"], 2, "no: no such folder",
    ),
    "a model of nothing": (
        ["synth", "model", "grpo.yaml", "--texts", "no", "none", "--family", "qwen9"], 2,
        ("--texts no: no such", "--texts none: no such", "grpo.yaml is a file", "--family"),
    ),
    "a text for a PDF": (
        ["read", "grpo.yaml", "--model", "other", "-o", "o"], 2, "grpo.yaml: not a PDF",
    ),
    "nothing for a new model": (["checkpoint", "soup", "a", "b", ""], 2, "OUT: '' is empty"),
    "a file for a new model": (
        ["checkpoint", "fp8", "other", "grpo.yaml/a"], 2, "grpo.yaml is a file, not a folder",
    ),
    "one model for a soup": (["checkpoint", "soup", "other", "out"], 2, "at least two models"),
    "the same model twice": (
        ["checkpoint", "soup", "other", "other/", "out"], 2, "other/: is named twice",
    ),
    "a model over another's files": (
        ["checkpoint", "soup", "other", "other", "bench"], 2, "bench: is not empty (it holds pdfs)",
    ),
    "weights that are no numbers": (
        ["checkpoint", "soup", "a", "b", "o", "--weights", "nan", "-1e3"], 2, "nan is not a finite",
    ),
    "a licence that leads nowhere": (
        ["checkpoint", "push", "run", "a/b", "--licence", "other", "--licence-name", "x",
         "--licence-link", "x"], 2, "--licence-link x: must begin with https://",
    ),
    "a result below a file": (
        ["bench", "run", "bench", "--model", "other", "--json", "grpo.yaml/a.json"], 2,
        "--json grpo.yaml/a.json: grpo.yaml is a file, not a folder",
    ),
    "more draws than there is memory": (
        ["bench", "run", "bench", "--model", "other", "--bootstrap-samples", "99999999999"], 2,
        "--bootstrap-samples is 99999999999, must be <= 1000000",
    ),
    "a server without a host": (
        ["bench", "run", "bench", "--model", "m", "--base-url", "http://"], 2, "must name a host",
    ),
    "a server with a port that is none": (
        ["read", "pairs", "--model", "m", "-o", "o", "--base-url", "http://h:x/v1"], 2,
        "--base-url http://h:x/v1: must name a host",
    ),
    "the source for the output": (
        ["synth", "from-html", "pairs", "pairs/"], 2, "pairs/: is the folder that is read",
    ),
    "a file for pages": (["synth", "pages", "grpo.yaml/a"], 2, "grpo.yaml is a file, not a fol"),
    "a price that is none": (
        ["synth", "from-pdfs", "pairs", "o", "--model", "m", "--price", "nan,1"], 2,
        "price 'nan,1' must be two numbers",
    ),
    "a file for a first folder": (["init", "grpo.yaml", *INIT], 2, "grpo.yaml: File exists"),
    "no bench folder": (["bench", "score", "no", "--candidate", "a"], 2, "no: no such folder"),
    "no list to sample": (["mix", "sample", "no", "o", "--docs", "1"], 2, "no such"),
    "tests from no pairs": (["synth", "tests", "no", "o"], 2, "no: "),
    "a key to explain that is none": (["config", "explain", "run.sed"], 2, "run.seed"),
    "a key to explain without its sections": (
        ["config", "explain", "lr"], 2, "did you mean learner.optimizer.lr?",
    ),
    "a key with dashes": ([*GRPO, "--run.steps=5"], 2, "have no dashes: run.steps=5"),
    "a key and its value with dashes": (
        [*GRPO, "--learner.optimizer.lr", "1e-5"], 2, "have no dashes: learner.optimizer.lr=...",
    ),
    "a key with spaces around =": ([*GRPO, "run.steps", "=", "5"], 2, "form section.key=value"),
    "a key as Hydra has it": ([*GRPO, "++run.steps=5"], 2, "did you mean 'run'?"),
    "a number with a comma": ([*GRPO, "learner.optimizer.lr=1e-5,"], 2, "got '1e-5,'"),
    "a model without its owner": (
        [*GRPO, "model.path=Qwen2.5-VL-7B-Instruct"], 2, "a name on the Hub, as owner/model is",
    ),
    "a run for its model": ([*GRPO, "model.path=./run"], 2, "run: has neither model.safetensors"),
    "a file of tests for a bench": (
        [*GRPO, "data.train=bench/tests.jsonl"], 2, "bench/tests.jsonl: not a folder",
    ),
    "whole documents for pages": (
        [*SFT, "data.train=[{root: long}]"], 2, ("1 of 1 page pairs cannot be used", "has 2 pages"),
    ),
    "texts that are empty": ([*SFT, "data.train=[{root: blank}]"], 2, "a.md: is empty; a blank"),
    "page pairs to learn from by tests": (
        ["init", "new", "--method", "grpo", *INIT], 2, "of page pairs `olmrl synth tests",
    ),
    "nothing to begin with": (
        ["init", "new", "--data", "empty", "--model", "qwen3_vl"], 2, "holds 0 .pdf and 0 .md",
    ),
    "a folder of nothing to read": (
        ["read", "empty", "--model", "other", "-o", "o", "--base-url", "http://h/v1"], 2,
        "empty: holds no PDF",
    ),
    "a server's name without a server": (
        ["read", "pairs", "--model", "other", "-o", "o", "--served-name", "x"], 2,
        "give --base-url with it",
    ),
    "more GPUs than there are to read with": (
        ["read", "pairs", "--model", "a/b", "-o", "o", "--gpus", "4096"], 2,
        "would take 4096 GPUs, and this machine has",
    ),
    "a schema of no command": (["config", "schema", "rl"], 2, "choose from 'sft', 'grpo'"),
    "a verb of another name": (["checkpoint", "export", "run", "o"], 2, "choose from 'hf'"),
    "nothing to filter by": (["mix", "filter", "pairs", "kept"], 2, "give --marks or --drop"),
    "a path for a candidate": (
        ["bench", "score", "bench", "--candidate", "bench/x"], 2, "is not a candidate folder",
    ),
    "a bench for page pairs": (["synth", "tests", "bench", "o"], 2, "no usable page (X.pdf with"),
    "a GRPO configuration to look at": (
        ["data", "show", "--config", "grpo.yaml"], 2, "data.train: needs a list",
    ),
    "a parity of a file": (
        ["checkpoint", "parity", "a/b", "--pages", "grpo.yaml"], 2, "grpo.yaml: is a file; name",
    ),
    "PDFs for HTML": (
        ["synth", "from-html", "pairs", "o"], 2, "no HTML file (.html, .htm, .xhtml) in it",
    ),
}  # fmt: skip
"""What was typed, the exit code, and a part of what is said, or several."""

SCRIPT = """
import contextlib, io, json, sys

heavy, lines = json.loads(sys.argv[1])
from olmrl.__main__ import main

def said(words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as ended:
            code = ended.code
    return [code, out.getvalue(), err.getvalue()]

answers = {}
for name, words in lines.items():
    help = said([*words[:1], "--help"])[1]
    if len(words) > 1 and not words[1].startswith("-"):
        help += said([*words[:2], "--help"])[1]
    answers[name] = [*said(words), sorted(set(heavy) & set(sys.modules)), help]
print(json.dumps(answers))
"""

CONFIG = """
model: {path: Qwen/Qwen3.5-0.8B}
learner: {use_gpu: false}
run: {dir: runs/first}
"""


def draw(path, pages=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = Canvas(str(path))
    for _ in range(pages):
        canvas.drawString(72, 720, "A page.")
        canvas.showPage()
    canvas.save()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


TEST = {"pdf": "a.pdf", "page": 1, "id": "1", "type": "present", "text": "A page."}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Code, output, errors and heavy modules of every mistake, from a folder of a first user."""
    home = tmp_path_factory.mktemp("home")
    draw(home / "bench/pdfs/a.pdf")
    write(home / "bench/tests.jsonl", json.dumps(TEST))
    draw(home / "untested/pdfs/a.pdf")
    (home / "lost/pdfs").mkdir(parents=True)
    write(home / "lost/tests.jsonl", json.dumps(TEST))
    draw(home / "bad_row/pdfs/a.pdf")
    write(home / "bad_row/tests.jsonl", '{"pdf": "a.pdf"')
    draw(home / "pairs/a.pdf")
    write(home / "pairs/a.md", "A page.\n")
    draw(home / "long/a.pdf", pages=2)
    write(home / "long/a.md", "A page.\n")
    draw(home / "blank/a.pdf")
    write(home / "blank/a.md", "\n")
    (home / "empty").mkdir()
    write(home / "adapter/config.json", '{"model_type": "qwen2_5_vl", "vision_config": {}}')
    write(home / "adapter/adapter_config.json", "{}")
    write(home / "pointer/config.json", '{"model_type": "qwen2_5_vl", "vision_config": {}}')
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    write(home / "pointer/model.safetensors", pointer)
    write(home / "other/config.json", '{"model_type": "llama"}')
    save_file({"norm": np.ones(2, np.float32)}, home / "other/model.safetensors")
    write(home / "mute/config.json", '{"model_type": "qwen2_5_vl", "vision_config": {"depth": 1}}')
    save_file({"norm": np.ones(2, np.float32)}, home / "mute/model.safetensors")
    write(home / "run/config.yaml", "model: {path: a/b}\n")
    write(home / "grpo.yaml", CONFIG + "data: {train: bench, heldout: bench}\n")
    write(home / "sft.yaml", CONFIG + f"data: {{train: [{{root: pairs}}], pipeline: [{ALL}]}}\n")
    write(home / "rl.yaml", CONFIG + "data: {train: bench}\nrewards: [{name: bench}]\n")
    write(home / "olmocr.yaml", "model: {name: m}\ndataset: {train: [{root_dir: d}]}\n")
    write(home / "a.bin", "\0\1\n")
    write(home / "broken.yaml", "run:\n  dir: [a\n")
    lines = {name: words for name, (words, _, _) in MISTAKES.items()}
    command = [sys.executable, "-c", SCRIPT, json.dumps([HEAVY, lines])]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (home / "runs").exists()
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", MISTAKES)
def test_a_typical_mistake_is_answered_at_once_by_our_own_sentence(answers, name):
    _, code, message = MISTAKES[name]
    found, out, error, heavy, _ = answers[name]
    for part in [message] if isinstance(message, str) else message:
        assert part in error + out, error
    assert found == code
    assert "Traceback" not in error
    assert error.strip().splitlines()[-1].startswith(("olmrl", "  - "))
    assert heavy == []


@pytest.mark.parametrize("name", MISTAKES)
def test_an_option_that_is_blamed_is_one_of_the_command(answers, name):
    _, _, error, _, help = answers[name]
    blamed = re.findall(r"^(?:olmrl[\w -]*: |  - )(?:argument )?(--[a-z-]+)", error, re.M)
    assert [option for option in blamed if option not in help] == []


def test_there_are_forty():
    assert len(MISTAKES) >= 40
