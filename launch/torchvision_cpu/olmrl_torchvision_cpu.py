"""Lets a CUDA build of torchvision import next to a CPU build of torch.

Such a torchvision fails at import because its compiled operators cannot be loaded, so the operators
it then registers Python kernels for do not exist. torch loads this module through its
`torch.backends` entry points in every process; it declares the two operators' schemas. Nothing here
computes them: olmrl uses torchvision only because transformers' video processor imports it.
"""

from importlib import metadata
from typing import Any

_library: Any = None


def register() -> None:
    """Declare the operator schemas, where and only where torchvision cannot do it itself."""
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
