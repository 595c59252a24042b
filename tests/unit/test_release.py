"""The wheel holds all that olmrl needs: it works in an empty folder, away from the repository."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from reportlab.pdfgen.canvas import Canvas

ROOT = Path(__file__).parents[2]
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder with the content of a wheel that was built from the sources alone, without git."""
    sources, wheels, site = (tmp_path_factory.mktemp(name) for name in ("src", "dist", "site"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    shutil.copytree(ROOT / "olmrl", sources / "olmrl", ignore=shutil.ignore_patterns("*.pyc"))
    command = [sys.executable, "-c", BUILD, str(wheels)]
    done = subprocess.run(command, cwd=sources, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = wheels.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    return site


@pytest.fixture
def command(installed, tmp_path):
    """Runs the installed olmrl in an empty folder."""

    def run(*arguments):
        environment = os.environ | {"PYTHONPATH": str(installed)}
        done = subprocess.run(
            [sys.executable, "-m", "olmrl", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def files(folder):
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def test_every_file_of_the_sources_is_in_the_wheel(installed):
    left_out = files(ROOT / "olmrl") - files(installed / "olmrl")
    assert {name for name in left_out if not name.endswith("README.md")} == set()


def test_licences_of_olmrl_and_of_what_it_bundles_are_in_the_wheel(installed):
    (licences,) = installed.glob("*.dist-info/licenses")
    assert files(licences) == {"LICENSE", "olmrl/markup/katex/LICENSE"}


def test_the_installed_quick_start_finds_its_settings(command):
    assert "--family" in command("quickstart", "--help")


def test_a_shipped_configuration_is_found_by_its_name_in_the_repository(command):
    shown = command(
        "grpo", "--config", "configs/grpo/qwen3_8gpus.yaml", "--dry-run",
        "--cluster", "1x8xH100-80G",
    )  # fmt: skip
    assert "cluster: 1 node(s) of 8 x H100-80G" in shown


def test_a_first_configuration_is_proposed(command, tmp_path):
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "a.md").write_text("A page.\n", "utf-8")
    canvas = Canvas(str(pages / "a.pdf"))
    canvas.drawString(72, 720, "A page.")
    canvas.save()
    command(
        "init", "mine", "--data", "pages", "--model", "Qwen/Qwen3-VL-2B-Instruct",
        "--hardware", "1x1xL4-24G",
    )  # fmt: skip
    assert (tmp_path / "mine" / "config.yaml").exists()
