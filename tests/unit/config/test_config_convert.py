from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from olmrl.config import ConfigError, SftConfig, load
from olmrl.config.__main__ import main
from olmrl.config.convert import NOT_IN_EVALUATION, convert
from olmrl.config.load import looks_like_olmocr, parse_yaml, validate
from olmrl.config.registered import STEPS

PUBLIC = """
project_name: pages
run_name: first
tags: [a]
model:
  name: Qwen/Qwen2.5-VL-7B-Instruct
  torch_dtype: bfloat16
  attn_implementation: flash_attention_2
  device_map: auto
  use_lora: false
  lora_rank: 16
dataset:
  train:
    - name: books
      root_dir: /data/books/
      pipeline: &steps
        - name: FrontMatterParser
          front_matter_class: PageResponse
        - name: FilterOutRotatedDocuments
        - name: PDFRenderer
          target_longest_image_dim: 1288
        - name: RotationAugmentation
          probability: 0.02
        - name: NewYamlFinetuningPromptWithNoAnchoring
        - name: FrontMatterOutputFormat
        - name: InstructUserMessages
          prompt_first: true
        - name: Tokenizer
          masking_index: -100
          end_of_message_token: "<|im_end|>"
    - root_dir: /data/letters
      pipeline: *steps
  eval:
    - name: held
      root_dir: /data/held
      pipeline: *steps
    - name: other
      root_dir: /data/other
      pipeline:
        - name: DatasetTextRuleFilter
        - name: Tokenizer
training:
  output_dir: /out/${run_name}
  per_device_train_batch_size: 1
  gradient_accumulation_steps: 32
  learning_rate: 2e-5
  lr_scheduler_type: linear
  collator_max_token_len: 8192
  torch_compile: true
  torch_compile_backend: inductor
  seed: 300
  data_seed: 301
  eval_steps: 250
  metric_for_best_model: eval_held_loss
  early_stopping: 3
"""


def converted(text: str = PUBLIC):
    return convert(parse_yaml(text, "public.yaml"), "public.yaml")


def test_published_values_arrive():
    config = validate(SftConfig, converted().values, "test")
    assert config.model.path == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert (config.model.attention, config.model.lora) == ("flash", None)
    assert config.training.pages_per_step == 32
    assert (config.run.seed, config.training.shuffle_seed) == (300, 301)
    assert config.run.dir == "/out/first/first"
    optimizer = config.learner.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.schedule) == ("adamw", 2e-5, "linear")
    assert (config.data.max_tokens, config.learner.compile) == (8192, True)
    assert [entry.root for entry in config.data.train] == ["/data/books/", "/data/letters"]
    assert [entry.pipeline for entry in config.data.train] == [None, None]
    assert [step["name"] for step in config.data.pipeline][:2] == [
        "FrontMatterParser",
        "FilterOutRotatedDocuments",
    ]
    assert config.evaluation.best_metric == "eval/held/loss"
    assert (config.logging.wandb, config.logging.wandb_project) == ("online", "pages")


def test_absent_keys_take_the_public_defaults():
    config = validate(SftConfig, converted().values, "test")
    assert config.learner.optimizer.warmup_ratio == 0.1
    assert config.learner.optimizer.weight_decay == 0.01
    assert config.learner.activation_checkpointing is False
    assert (config.checkpoint.every, config.checkpoint.keep_last) == (500, 3)
    minimal = """
model: {name: x}
dataset: {train: [{root_dir: /a, pipeline: [{name: Tokenizer}]}]}
"""
    config = validate(SftConfig, converted(minimal).values, "test")
    assert config.learner.optimizer.schedule == "cosine"
    assert config.training.pages_per_step == 8
    assert config.model.attention == "auto"


def test_evaluation_sets_lose_filters_and_augmentation():
    result = converted()
    held, other = result.values["data"]["evaluation"]
    assert "pipeline" not in held
    assert [step["name"] for step in other["pipeline"]] == ["Tokenizer"]
    assert any("DatasetTextRuleFilter" in note for note in result.notes)
    kinds = {name for name in STEPS.paths if STEPS.load(name).kind != "transform"}
    assert kinds == NOT_IN_EVALUATION


def test_every_ignored_key_is_reported_with_its_reason():
    ignored = {line.split(" = ")[0]: line for line in converted().ignored}
    assert set(ignored) == {
        "tags",
        "model.device_map",
        "training.torch_compile_backend",
        "training.early_stopping",
    }
    assert "does not know this key" in ignored["training.early_stopping"]


def test_lora_and_muon():
    text = PUBLIC.replace("use_lora: false", "use_lora: true").replace(
        "seed: 300",
        "seed: 300\n  optim: muon\n  muon_momentum: 0.9\n  muon_lr_multiplier_head: 4.4",
    )
    config = validate(SftConfig, converted(text).values, "test")
    assert (config.model.lora.rank, config.model.lora.alpha) == (16, 32)
    assert (config.learner.optimizer.name, config.learner.optimizer.muon_momentum) == ("muon", 0.9)
    assert config.learner.optimizer.muon_lr == 2e-5
    factors = config.learner.optimizer.lr_multipliers
    assert (factors.head, factors.embedding, factors.scalar) == (4.4, 30, 2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("learning_rate: 2e-5", "learning_rate: fast", "training.learning_rate is 'fast'"),
        ("eval_steps: 250", "eval_steps: 2.5", "whole number"),
        ("torch_dtype: bfloat16", "torch_dtype: float16", "use bfloat16 or float32"),
        ("flash_attention_2", "magic", "attn_implementation is 'magic'"),
        ("${run_name}", "${nothing.here}", "names no key"),
        ("${run_name}", "${model}", "names a section"),
        ("run_name: first", "run_name: ${run_name}x", "refers to itself"),
        ("root_dir: /data/letters", "rootdir: /data/letters", r"train\[1\]: needs a root_dir"),
        ("seed: 300", "optim: sgd", "allowed: adamw_torch, muon"),
    ],
)
def test_values_that_cannot_be_carried_over(old: str, new: str, message: str):
    with pytest.raises(ConfigError, match=message):
        converted(PUBLIC.replace(old, new))


def test_own_and_foreign_files_are_told_apart():
    assert looks_like_olmocr(parse_yaml(PUBLIC, "x"))
    assert not looks_like_olmocr({"model": {"path": "x"}, "data": {"train": []}})
    assert not looks_like_olmocr({"dataset": 3})
    with pytest.raises(ConfigError, match="not an olmocr training configuration"):
        convert({"a": 1}, "x.yaml")


def test_command_writes_a_file_that_loads_and_never_overwrites(tmp_path: Path, capsys):
    (tmp_path / "public.yaml").write_text(PUBLIC)
    source, target = str(tmp_path / "public.yaml"), tmp_path / "own.yaml"
    assert main(["convert", source, "-o", str(target)]) == 0
    assert "ignored: model.device_map" in capsys.readouterr().err
    assert load(SftConfig, target).training.pages_per_step == 32
    assert "# Ignored:  tags = ['a']" in target.read_text()
    assert main(["convert", source, "-o", str(target)]) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert main(["convert", source]) == 0
    assert load_text(capsys.readouterr().out, tmp_path) == load(SftConfig, target)


def load_text(text: str, folder: Path) -> SftConfig:
    (folder / "printed.yaml").write_text(text)
    return load(SftConfig, folder / "printed.yaml")


def test_command_finds_misspelt_steps(tmp_path: Path, capsys):
    (tmp_path / "public.yaml").write_text(PUBLIC.replace("PDFRenderer", "PDFRendrer"))
    assert main(["convert", str(tmp_path / "public.yaml")]) == 2
    assert "did you mean 'PDFRenderer'?" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "missing.yaml")]) == 2


def test_a_public_file_given_to_a_command_says_how_to_convert_it(tmp_path: Path):
    path = tmp_path / "public.yaml"
    path.write_text(PUBLIC)
    with pytest.raises(ConfigError, match=rf"olmrl\.config convert {path} -o OUT"):
        load(SftConfig, path)


def test_a_base_model_of_another_family_is_refused(tmp_path, capsys):
    file = tmp_path / "public.yaml"
    file.write_text(PUBLIC.replace("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen3.6-27B"))
    assert main(["convert", str(file)]) == 2
    assert "Qwen3.6 models are of a family that olmrl cannot train" in capsys.readouterr().err
    file.write_text(PUBLIC.replace("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2-VL-7B-Instruct"))
    assert main(["convert", str(file)]) == 0


@pytest.mark.parametrize(
    ("metric", "chosen"), [("eval_b_loss", "eval/b/loss"), ("eval_other_loss", "eval/loss")]
)
def test_a_best_metric_of_no_set_is_replaced_and_said(metric, chosen):
    steps = "pipeline: [{name: FrontMatterParser}]"
    values = yaml.safe_load(
        "model: {name: Qwen/Qwen2.5-VL-7B-Instruct}\n"
        f"dataset: {{train: [{{root_dir: /a, {steps}}}], eval: [{{root_dir: /x/b, {steps}}}]}}\n"
        f"training: {{metric_for_best_model: {metric}}}\n"
    )
    conversion = convert(values, "a.yaml")
    assert conversion.values["evaluation"]["best_metric"] == chosen
    assert any(metric in note for note in conversion.notes) == (chosen == "eval/loss")
    for number in (".inf", ".nan", "many"):
        broken = {**values, "training": {"eval_steps": yaml.safe_load(number)}}
        with pytest.raises(ConfigError, match=r"training\.eval_steps is .* must be a number"):
            convert(broken, "a.yaml")
