"""Lets a CUDA build of torchvision import next to a CPU build of torch.

Such a torchvision cannot load its compiled operators, so its import fails when it registers Python
kernels for two operators that do not exist. This module, which torch loads in every process through
its `torch.backends` entry points, declares the schemas of these two. They are never computed: olmrl
only needs torchvision because transformers' video processor imports it.
"""

from importlib import metadata
from typing import Any

_library: Any = None


def register() -> None:
    """Declare the operator schemas if torchvision cannot do so itself."""
    global _library
    import torch

    try:
        version = metadata.version("torchvision")
    except metadata.PackageNotFoundError:
        return
    if torch.version.cuda is not None or "+cpu" in version:
        return
    _library = torch.library.Library("torchvision", "FRAGMENT")
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
