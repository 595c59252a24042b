"""Shared by the mix tests: PDFs, and how a verb is started, killed and compared."""

import os
import subprocess
import sys
from pathlib import Path

from reportlab.pdfgen import canvas


def make_pdf(path, pages=("Hello",), size=(300, 400), encrypt=None):
    """Write a PDF with a few lines of text per page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing = canvas.Canvas(str(path), pagesize=size, invariant=1, encrypt=encrypt)
    for text in pages:
        for number, line in enumerate(text.splitlines()):
            drawing.drawString(20, size[1] - 30 - 14 * number, line)
        drawing.showPage()
    drawing.save()
    return path


def tree(root, without=(".mix",)):
    """{relative path: bytes} of a folder, links followed; the state folders are left out."""
    found = {}
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if name not in without]
        for name in names:
            path = Path(folder) / name
            found[str(path.relative_to(root))] = path.read_bytes()
    return found


def start(*arguments, **environment):
    """Start a verb as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "olmrl.mix", *map(str, arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


KILLER = """
import os, signal, sys
real, left = os.replace, [int(sys.argv[1])]
def replace(*arguments, **keywords):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    real(*arguments, **keywords)
    if left[0] == 0 and sys.argv[2] == "after":
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
from olmrl.mix.__main__ import main
sys.exit(main(sys.argv[3:]))
"""


def killed_at(replacement, when, *arguments):
    """Run a verb that kill -9s itself at its n-th finished file; True when it got that far."""
    command = [sys.executable, "-c", KILLER, str(replacement), when, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == -9
