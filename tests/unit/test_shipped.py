"""`configs/...` is the user's own file where there is one, else the one that comes with olmrl."""

import pytest

from olmrl import shipped
from olmrl.config import ConfigError, GrpoConfig, load
from olmrl.data.prompts import absolute_prompt, load_prompt


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    load_prompt.cache_clear()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_configuration_and_its_prompt_are_found_in_any_folder():
    config = load(GrpoConfig, "configs/grpo/tiny_cpu.yaml", [])
    assert config.data.prompt == "file:configs/prompts/tiny.txt"
    assert load_prompt(config.data.prompt) == (shipped.FOLDER / "prompts/tiny.txt").read_text()
    assert absolute_prompt(config.data.prompt) == config.data.prompt


def test_the_users_own_file_of_that_name_comes_first(elsewhere):
    (elsewhere / "configs/prompts").mkdir(parents=True)
    (elsewhere / "configs/prompts/tiny.txt").write_text("Read it.")
    assert load_prompt("file:configs/prompts/tiny.txt") == "Read it."
    mine = f"file:{elsewhere}/configs/prompts/tiny.txt"
    assert absolute_prompt("file:configs/prompts/tiny.txt") == mine


@pytest.mark.parametrize("name", ["configs/grpo/none.yaml", "grpo/tiny_cpu.yaml", "configs"])
def test_any_other_name_is_looked_up_where_it_says(name):
    assert shipped.find(name) == name
    with pytest.raises(ConfigError, match=f"{name}: cannot be read"):
        load(GrpoConfig, name, [])
