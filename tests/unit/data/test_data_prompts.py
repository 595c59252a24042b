from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from olmrl.data.prompts import absolute_prompt, load_prompt, olmocr_prompt


def test_own_prompt_names_the_five_keys_and_the_formats():
    text = load_prompt("olmrl-v1")
    for word in (
        "primary_language",
        "is_rotation_valid",
        "rotation_correction",
        "is_table",
        "is_diagram",
        "LaTeX",
        "HTML",
        "natural reading order",
    ):
        assert word in text


def test_prompt_from_a_file(tmp_path: Path):
    (tmp_path / "p.txt").write_text("Read caf\u00e9.\n", "utf-8")
    assert load_prompt(f"file:{tmp_path}/p.txt") == "Read caf\u00e9.\n"


@pytest.mark.parametrize("name", ["olmrl-v2", "v4", "", "file:", "olmrl-v1:x"])
def test_unknown_names_list_what_is_allowed(name: str):
    with pytest.raises(ValueError, match="allowed: olmrl-v1"):
        load_prompt(name)


def test_prompt_files_are_found_from_any_folder(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_prompt("file:a/p.txt") == f"file:{tmp_path}/a/p.txt"
    assert absolute_prompt("olmocr-v4:v4.txt") == f"olmocr-v4:{tmp_path}/v4.txt"
    for name in ("olmrl-v1", "olmocr-v4", "file:s3://box/p.txt", "olmocr-v4:hf://a/b.txt"):
        assert absolute_prompt(name) == name


def test_unusable_files(tmp_path: Path):
    with pytest.raises(ValueError, match="cannot read it"):
        load_prompt(f"file:{tmp_path}/missing.txt")
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(ValueError, match="empty"):
        load_prompt(f"file:{tmp_path}/empty.txt")


def test_public_prompt_is_checked_by_its_digest(tmp_path: Path):
    (tmp_path / "v4.txt").write_text("some other text")
    with pytest.raises(ValueError, match=r"sha256 is .*, the released prompt has c12f21aca8c6"):
        load_prompt(f"olmocr-v4:{tmp_path}/v4.txt")


def test_public_prompt_comes_from_the_installed_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "olmocr.prompts.prompts", None)
    with pytest.raises(ValueError, match="olmocr package, which is not installed"):
        load_prompt("olmocr-v4")
    package = types.ModuleType("olmocr.prompts.prompts")
    package.build_no_anchoring_v4_yaml_prompt = lambda: "changed since the release"
    monkeypatch.setitem(sys.modules, "olmocr.prompts.prompts", package)
    monkeypatch.setitem(sys.modules, "olmocr.prompts", types.ModuleType("olmocr.prompts"))
    monkeypatch.setitem(sys.modules, "olmocr", types.ModuleType("olmocr"))
    with pytest.raises(ValueError, match="sha256"):
        load_prompt("olmocr-v4")
    with pytest.raises(ValueError, match="no prompt 'finetuning'"):
        olmocr_prompt("finetuning", "anchor")
