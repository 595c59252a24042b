"""Train OCR vision-language models with SFT and GRPO on document pages, on Ray."""

import os

__version__ = "0.1.0"

_RAY_WAITS = {
    "RAY_raylet_start_wait_time_s": "60",
    "RAY_agent_register_timeout_ms": "240000",
    "RAY_worker_register_timeout_seconds": "240",
}
"""Ray's start-up waits are for an idle machine: at a load of ten they run out.

Set here because Ray reads them when it is first imported; the user's own values stay.
"""

for _name, _value in _RAY_WAITS.items():
    os.environ.setdefault(_name, _value)
