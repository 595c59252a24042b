"""Lets a CUDA build of torchvision be imported next to a CPU build of torch.

pip installs such a pair where torch comes from one place and torchvision from another. That
torchvision cannot load its compiled operators, so its import fails when it registers Python kernels
for two operators that do not exist. `register`, which torch calls in every process through its
`torch.backends` entry points (pyproject.toml), declares the schemas of these two. They are never
computed: olmrl only needs torchvision because transformers' video processor imports it.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

_library: Any = None
"""Kept: the declarations end with it."""


def register() -> None:
    """Declare the operators' schemas if torchvision cannot do so itself."""
    global _library
    # Deferred: torch calls this while it is being imported.
    import torch  # noqa: PLC0415

    version = _version("torchvision")
    # Declared twice they would break torch: an environment of before has a package that does it.
    if version is None or _version("olmrl-torchvision-cpu") is not None:
        return
    if not is_mixed(torch.__version__, version):
        return
    _library = torch.library.Library("torchvision", "FRAGMENT")
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def is_mixed(torch: str, other: str) -> bool:
    """Whether these versions are of a CPU build of torch and a package built for CUDA."""
    return torch.endswith("+cpu") and "+" not in other
