"""The site is built by a command that refuses links that lead nowhere."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("mkdocs", reason="the site needs the extra olmrl[docs]")
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("index", "code", "said"),
    [
        ("[here](there.md#a-heading)", 0, ""),
        ("[here](nowhere.md#a-heading) [there](there.md)", 1, "nowhere.md"),
        ("[here](there.md#no-heading)", 1, "no-heading"),
        ("[here](../launch/README.md) [there](there.md)", 1, "launch/README.md"),
    ],
)
def test_a_link_that_leads_nowhere_fails_the_build(index, code, said, tmp_path):
    launcher = (ROOT / "launch/local.sh").read_text("utf-8")
    (line,) = re.findall(r"python (-m mkdocs build .*) \"\$\{@:2\}\"", launcher)
    checks = re.search(r"^validation:\n(?:  .*\n)+", (ROOT / "mkdocs.yml").read_text(), re.M)
    settings = {"site_name": "t", "theme": "mkdocs", **yaml.safe_load(checks[0])}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(settings))
    (tmp_path / "docs").mkdir()
    pages = tmp_path / "docs"
    (pages / "index.md").write_text(f"# Start\n\n{index}\n")
    (pages / "there.md").write_text("# There\n\n## A heading\n\nText.\n")
    command = [sys.executable, *shlex.split(line)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
