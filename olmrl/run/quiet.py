"""Quiet libraries."""

from __future__ import annotations

import logging
import os
import warnings

_CHATTY = ("ray", "ray.train", "ray.data", "ray.tune", "transformers", "vllm", "huggingface_hub")


def quiet_libraries() -> None:
    """Keep library chatter off the console; olmrl's own errors carry what matters."""
    warnings.filterwarnings("ignore")
    for variable, value in {
        "RAY_DEDUP_LOGS": "1",
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }.items():
        os.environ.setdefault(variable, value)
    for library in _CHATTY:
        logging.getLogger(library).setLevel(logging.ERROR)
    # DeepSpeed sets its own level when transformers imports it, and then warns about CPUs.
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
