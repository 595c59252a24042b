"""Packages that trackers need and olmrl does not install by itself."""

from __future__ import annotations

import importlib.util

from olmrl.config import ConfigError

_WRITERS = {"tensorboard": "torch.utils.tensorboard", "tensorboardX": "tensorboardX"}
"""By package, the module whose `SummaryWriter` writes events with it."""


def tensorboard_module() -> str:
    """The module whose `SummaryWriter` writes TensorBoard's events here.

    Raises:
        ConfigError: no package for it is installed.
    """
    for package, module in _WRITERS.items():
        if importlib.util.find_spec(package) is not None:
            return module
    raise ConfigError(
        f"logging.tensorboard: neither {' nor '.join(_WRITERS)} is installed; "
        "pip install tensorboard"
    )
