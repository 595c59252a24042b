"""What a model's name can be: a folder here, or a name on the Hub."""

from __future__ import annotations

import os


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
    if model.startswith(("/", ".", "~")) and not os.path.isdir(model):
        raise ValueError(f"{said}: no such folder")
