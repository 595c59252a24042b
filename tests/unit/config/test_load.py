"""Configuration: strict, explained, and every shipped file loads."""

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from olmrl.config import ConfigError, GrpoConfig, SftConfig, dump, load
from olmrl.config.annotations import types_in
from olmrl.config.load import parse_yaml, validate

CONFIGS = Path(__file__).parents[3] / "configs"
MINIMAL = ["model.path=m", "data.train=d"]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("grpo/*.yaml")), ids=lambda p: p.stem)
def test_shipped_grpo_configs_load(path):
    load(GrpoConfig, path)
    assert path.read_text().startswith("#"), "opens with purpose, hardware, expected result"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("sft/*.yaml")), ids=lambda p: p.stem)
def test_shipped_sft_configs_load(path):
    load(SftConfig, path)
    assert path.read_text().startswith("#"), "opens with purpose, hardware, expected result"


def test_configs_are_shipped_for_both_commands():
    assert list(CONFIGS.glob("grpo/*.yaml")) and list(CONFIGS.glob("sft/*.yaml"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rollout.grup_size=3", "did you mean 'group_size'"),
        ("rolout.group_size=3", "did you mean 'rollout'"),
        ("rewards=[{name: bench, wieght: 2}]", "did you mean 'weight'"),
        ("rollout.group_size=many", "rollout.group_size"),
        ("rollout.group_size=1", "as advantages compare completions"),
        ("rewards=[]", "at least one reward"),
        ("weight_sync.lora=adapter", "adapter needs model.lora; set merged"),
        ("weight_sync.lora=both", "weight_sync.lora"),
        ("rollout.quantization=int8", "rollout.quantization"),
        ("rewards=[{name: eos},{name: eos}]", "duplicate name"),
        ("algorithm.loss=ppo", "algorithm.loss"),
        ("algorithm.reward_scaling=gdpo", "'per_reward'"),
        ("data.selection.failed=1.0", "failed: 1.0 must be below data.selection.solved=1.0"),
        ("data.selection.solved=1.5", "data.selection.solved"),
        ("data.selection.rest_epoch=1", "did you mean 'rest_epochs'"),
        ("data.selection={rest_epochs: 1}", "rest_epochs: needs run.epochs above 1"),
        ("data.selection={rest_epochs: 1, reward: tedz}", "no reward 'tedz'; rewards has bench, "),
        ("rollout", "section.key=value"),
        ("learner.optimizer.lr=-1", "learner.optimizer.lr"),
        ("data.train.x=1", "not a section"),
    ],
)
def test_a_wrong_key_or_value_is_named(override, message):
    with pytest.raises(ConfigError, match=message.replace("'", ".")):
        load(GrpoConfig, None, [*MINIMAL, override])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.lora={rank: 513}", "weight_sync.lora=adapter"], "rank: must be at most 512.* 513"),
        (
            ["model.lora={}", "weight_sync.lora=adapter", "rollout.colocate=true"],
            "cannot go with rollout.colocate, as sleeping engines drop",
        ),
        (["rollout.quantization=fp8", "rollout.engine=hf"], "needs rollout.engine: vllm, got hf"),
        (["rollout.quantization=fp8", "rollout.dtype=float32"], "needs rollout.dtype: bfloat16"),
        (["rollout.quantization=fp8", "rollout.colocate=true"], "cannot go with rollout.colocate"),
        (
            ["rollout.quantization=fp8", "algorithm.correction.level=sequence"],
            "gaps add up over a completion; set algorithm.correction.level=token",
        ),
    ],
)
def test_settings_that_cannot_go_together_are_named(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load(GrpoConfig, None, [*MINIMAL, *overrides])


def test_settings_that_can_go_together_load():
    eight_bit = ["rollout.quantization=fp8", "weight_sync.checksum=true"]
    eight_bit.append("algorithm.correction.level=token")
    assert load(GrpoConfig, None, [*MINIMAL, *eight_bit]).synced_adapter is None
    lora = ["model.lora={rank: 512}", "weight_sync.lora=adapter"]
    assert load(GrpoConfig, None, [*MINIMAL, *lora]).synced_adapter.rank == 512
    assert load(GrpoConfig, None, [*MINIMAL, lora[0]]).synced_adapter is None


def test_missing_section_values_are_named():
    with pytest.raises(ConfigError, match="model"):
        load(GrpoConfig, None, ["data.train=d"])


def test_a_broken_file_names_file_and_line(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("model:\n  path: m\n  path: n\n")
    with pytest.raises(ConfigError, match=r"c.yaml, line 3.*occurs twice"):
        load(GrpoConfig, path)
    path.write_text("a: [1\n")
    with pytest.raises(ConfigError, match=r"c.yaml, line"):
        load(GrpoConfig, path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(GrpoConfig, tmp_path / "absent.yaml")
    path.write_bytes(b"model: \xff")
    with pytest.raises(ConfigError, match=r"c.yaml: not UTF-8"):
        load(GrpoConfig, path)


def test_numbers_in_scientific_notation_are_numbers():
    config = load(GrpoConfig, None, [*MINIMAL, "learner.optimizer.lr=2e-5"])
    assert config.learner.optimizer.lr == 2e-5


def test_words_that_old_yaml_reads_as_booleans_stay_words():
    config = load(GrpoConfig, None, [*MINIMAL, "logging.wandb=off", "learner.use_gpu=false"])
    assert (config.logging.wandb, config.learner.use_gpu) == ("off", False)


def test_later_overrides_win_over_the_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("model: {path: m}\ndata: {train: d}\nrollout: {group_size: 4}\n")
    config = load(GrpoConfig, path, ["rollout.group_size=6", "rollout.group_size=8"])
    assert config.rollout.group_size == 8


def test_dump_reads_back_as_the_same_configuration():
    config = load(GrpoConfig, None, [*MINIMAL, "rollout.workers={min: 1, max: 3}"])
    assert GrpoConfig.model_validate(yaml.safe_load(dump(config))) == config
    assert (config.rollout.min_workers, config.rollout.max_workers) == (1, 3)


def test_the_equation_renderer_reaches_comparisons(monkeypatch):
    from olmrl.markup import equations

    config = load(GrpoConfig, None, [*MINIMAL, "markup.equations.renderer=chromium"])
    assert config.markup.equations.renderer == "chromium"
    monkeypatch.setenv(equations.RENDERER_VARIABLE, "mathjax")
    with pytest.raises(ValueError, match="must be katex or chromium"):
        equations.equivalent("x^2+y", "y+x^2")


SFT = ["model.path=m", "data.train=[{root: a}]", "data.evaluation=[{root: x/held}, {root: loc}]"]


def sft(*overrides):
    return load(SftConfig, None, [*SFT, *overrides])


def test_the_best_checkpoint_goes_by_a_figure_that_is_measured():
    assert sft().evaluation.mode == "min"
    assert sft("evaluation.best_metric=eval/held/loss").evaluation.mode == "min"
    reading = ["evaluation.generate={pages: 4}", "evaluation.best_metric=eval/loc/reading"]
    assert sft(*reading).evaluation.mode == "max"
    bench = ["evaluation.generate={bench: some/bench}", "evaluation.best_metric=eval/pass_rate"]
    assert sft(*bench).evaluation.mode == "max"
    with pytest.raises(ConfigError, match=r"'eval/other/loss' is not measured; allowed: .*held"):
        sft("evaluation.best_metric=eval/other/loss")
    for metric in ("edit_similarity", "pass_rate"):
        with pytest.raises(ConfigError, match="is not measured"):
            sft(f"evaluation.best_metric=eval/{metric}")


def test_evaluation_sets_have_names_of_their_own():
    with pytest.raises(ConfigError, match="two sets are called 'held'"):
        sft("data.evaluation=[{root: a/held}, {root: b/held/}]")
    with pytest.raises(ConfigError, match="two sets are called 'loc'"):
        sft("evaluation.generate={bench: other/loc}")
    with pytest.raises(ConfigError, match="needs pages"):
        sft("data.evaluation=[]", "evaluation.generate={pages: 3}")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("/data/pages #2", "/data/pages #2"),
        ("2024-01-31", "2024-01-31"),
        ("010", "010"),
        ("a: b", "a: b"),
        ("[x]", "[x]"),
        ("true", "true"),
        ("1e3", "1e3"),
        ("'/quoted #2'", "/quoted #2"),
        ("C:\\pages", "C:\\pages"),
        ("s3://bucket/a?b={c}", "s3://bucket/a?b={c}"),
    ],
)
def test_an_override_of_a_text_is_the_text(written, read):
    config = load(GrpoConfig, None, ["model.path=m", f"data.train={written}"])
    assert config.data.train == read
    assert load(GrpoConfig, None, [*MINIMAL, f"data.heldout={written}"]).data.heldout == read


def test_an_override_can_unset_a_text():
    assert load(GrpoConfig, None, [*MINIMAL, "data.heldout=null"]).data.heldout is None
    with pytest.raises(ConfigError, match=r"data\.train"):
        load(GrpoConfig, None, ["model.path=m", "data.train="])


def test_files_read_numbers_and_names_as_people_write_them(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("model: {path: 2024-01-31}\ndata: {train: d}\nrollout: {group_size: 010}\n")
    config = load(GrpoConfig, path)
    assert (config.model.path, config.rollout.group_size) == ("2024-01-31", 10)
    assert load(GrpoConfig, path, ["rollout.group_size=016"]).rollout.group_size == 16


def test_the_home_folder_is_spelt_out_in_every_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/reader")
    keys = {"model.path": "m", "data.train": "d", "data.heldout": "h", "run.dir": "r"}
    config = load(GrpoConfig, None, [f"{key}=~/{name}" for key, name in keys.items()])
    found = [config.model.path, config.data.train, config.data.heldout, config.run.dir]
    assert found == [f"/home/reader/{name}" for name in keys.values()]
    pairs = load(SftConfig, None, ["model.path=m", "data.train=[{root: ~/a}]"])
    assert pairs.data.train[0].root == "/home/reader/a"
    with pytest.raises(ConfigError, match=r"run\.dir: '~nobody-here/x': no such user"):
        load(GrpoConfig, None, [*MINIMAL, "run.dir=~nobody-here/x"])


def numeric_keys(schema, prefix=()):
    """Paths of all keys that take a number, sections opened."""
    for name, field in schema.model_fields.items():
        kinds = [t for t in types_in(field.annotation) if isinstance(t, type)]
        sections = [t for t in kinds if issubclass(t, BaseModel)]
        if {int, float} & set(kinds) and str not in kinds:
            yield ".".join((*prefix, name))
        for section in sections:
            if "tuple" not in str(field.annotation):
                yield from numeric_keys(section, (*prefix, name))


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1e300", "1" + 30 * "0", "true"])
@pytest.mark.parametrize("key", sorted(set(numeric_keys(GrpoConfig))))
def test_no_key_takes_numbers_that_cannot_be_meant(key, value):
    with pytest.raises(ConfigError, match=key.split(".")[-1]):
        load(GrpoConfig, None, [*MINIMAL, f"{key}={value}"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, "\ud800", "a\0b"])
@pytest.mark.parametrize(
    "section", ["rewards.0.options", "algorithm.loss_options", "learner.optimizer.schedule_options"]
)
def test_no_option_of_a_part_takes_what_cannot_be_meant(section, value):
    values = {"x": value}
    for name in reversed(section.split(".")):
        values = [{"name": "mine:part"} | values] if name == "0" else {name: values}
    base = load(GrpoConfig, None, MINIMAL).model_dump(mode="json")
    for name, inner in values.items():
        base[name] = inner if isinstance(inner, list) else base[name] | inner
    with pytest.raises(ConfigError, match=rf"{section}\.x is ") as caught:
        validate(GrpoConfig, base, "c.yaml")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("workers", [0, -1, "{min: 0}"])
def test_there_is_no_run_without_engines(workers):
    with pytest.raises(ConfigError, match=r"rollout\.workers"):
        load(GrpoConfig, None, [*MINIMAL, f"rollout.workers={workers}"])


@pytest.mark.parametrize("key", ["run.dir", "model.path", "data.train"])
def test_a_place_has_a_name(key):
    with pytest.raises(ConfigError, match=f"{key}: .* must be a folder or a name"):
        load(GrpoConfig, None, [*MINIMAL, f"{key}=''"])


def test_an_endless_value_is_not_repeated_whole():
    with pytest.raises(ConfigError, match=r"run\.seed") as caught:
        load(GrpoConfig, None, [*MINIMAL, "run.seed=" + "x" * 10_000])
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("run: {dir: !!timestamp 2024-99-99}", "a value cannot be read"),
        ("run: {steps: " + "9" * 5000 + "}", "a value cannot be read"),
        ("a: " + "[" * 5000, "cannot be read"),
        ("a: 1" + ":1" * 400 + ".5", "a value cannot be read"),
        ("a: !!int {}", "a value cannot be read"),
        ("a: !!timestamp x", "a value cannot be read"),
        ("? [a]\n: b", "line 1: a list or mapping cannot be a key"),
        ("a: &a [*a]", "recursive"),
        (
            "a: &a [x]\n"
            + "".join(
                f"{n}: &{n} [{(f'*{o}, ' * 9)[:-2]}]\n"
                for o, n in zip("abcdef", "bcdefg", strict=True)
            ),
            "more than 100000 values",
        ),
    ],
    ids=["date", "number", "depth", "float", "int", "time", "key", "circle", "bomb"],
)
def test_yaml_that_means_harm_is_a_sentence(text, words):
    with pytest.raises(ConfigError, match=words):
        parse_yaml(text, "c.yaml")
