"""What a model's name can be: a folder here, or a name on the Hub."""

from __future__ import annotations

import os
import re

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def refuse_no_folder(given: str, model: str) -> None:
    """Refuse what is neither, as far as can be seen without asking the Hub.

    Args:
        given: the option or key that holds it, for the sentence; empty: none.
        model: the name.

    Raises:
        ValueError: it is a file, or a path to no folder.
    """
    said = f"{given} {model}".lstrip()
    if os.path.isfile(model):
        raise ValueError(f"{said}: is a file, not a model's folder or a name on the Hub")
    if os.path.isdir(model):
        return
    if model.startswith(("/", ".", "~")) or (model.count("/") > 1 and "://" not in model):
        raise ValueError(f"{said}: no such folder")
    if os.path.lexists(model):
        raise ValueError(f"{said}: is a link to nothing, or no folder")
    if not _HUB_NAME.fullmatch(model):
        raise ValueError(f"{said}: neither a folder here nor a name on the Hub, as owner/model is")
