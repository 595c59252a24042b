"""The picture docs/languages.png: one page of each language that the tests set, by `from-html`.

python benchmarks/languages.py --work /tmp/languages
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
WIDTH, HEIGHT, A_ROW = 400, 300, 4
"""Pixels of a page's upper half, and pages in a row."""


def main() -> None:
    from languages import LANGUAGES, document

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("/tmp/olmrl-languages"))
    work = parser.parse_args().work
    (work / "source").mkdir(parents=True, exist_ok=True)
    for language in LANGUAGES:
        (work / "source" / f"{language}.html").write_text(document(language), "utf-8")
    command = [sys.executable, "-m", "olmrl.synth", "from-html", work / "source", work / "out"]
    subprocess.run(command, check=True, cwd=ROOT)
    pictures = sorted((work / "out" / "sheet" / "pictures").glob("*-render.jpg"))
    join(pictures, ROOT / "docs" / "languages.png")


def join(pages: list[Path], target: Path) -> None:
    """The upper halves of pages side by side."""
    rows = -(-len(pages) // A_ROW)
    whole = Image.new("L", (A_ROW * (WIDTH + 8), rows * (HEIGHT + 8)), 200)
    for number, path in enumerate(pages):
        page = Image.open(path).convert("L")
        height = round(WIDTH * page.height / page.width)
        part = page.resize((WIDTH, height), Image.Resampling.LANCZOS).crop((0, 0, WIDTH, HEIGHT))
        row, column = divmod(number, A_ROW)
        whole.paste(part, (column * (WIDTH + 8) + 4, row * (HEIGHT + 8) + 4))
    whole.quantize(16).save(target, optimize=True)


if __name__ == "__main__":
    main()
