"""Train OCR vision-language models with SFT and GRPO on document pages, on Ray."""

import itertools
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType

try:
    __version__ = version("olmrl")
except PackageNotFoundError:  # a source tree on PYTHONPATH
    __version__ = "0+unknown"

_RAY_WAITS = {
    "RAY_agent_register_timeout_ms": "240000",
    "RAY_worker_register_timeout_seconds": "240",
}
"""Ray's start-up waits suit an idle machine: at a load of ten, workers need longer to register.

Set here because Ray reads them when it is first imported; the user's own values stay. Its wait for
a node is fixed: see `ray_start.start_patiently`.
"""

for _name, _value in _RAY_WAITS.items():
    os.environ.setdefault(_name, _value)


def _as_a_command(words: list[str]) -> bool:
    """Whether a command line (`sys.orig_argv`) calls olmrl, and not a program that uses it."""
    script = any(os.path.basename(word) == "olmrl" for word in words[:2])
    return script or any(
        flag == "-m" and module.split(".")[0] == "olmrl"
        for flag, module in itertools.pairwise(words)
    )


def _say_interrupted(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """What Ctrl-C shows where no command handles it, as while modules are being imported."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
    else:
        sys.__excepthook__(kind, error, trace)


if _as_a_command(sys.orig_argv):
    sys.excepthook = _say_interrupted
