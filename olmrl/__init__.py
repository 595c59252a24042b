"""Train OCR vision-language models with SFT and GRPO on document pages, on Ray."""

import os
from importlib.metadata import PackageNotFoundError, version

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
a node is fixed: see `cluster.connect.start_patiently`.
"""

for _name, _value in _RAY_WAITS.items():
    os.environ.setdefault(_name, _value)
