"""A model folder of a run, looked at before it is shared: whole, plain, of known origin."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub

from olmrl.config import ConfigError
from olmrl.config.load import parse_yaml
from olmrl.export.card import card_config
from olmrl.models import weight_files
from olmrl.models.files import chat_template, image_settings, readme
from olmrl.share.cards import check_repo
from olmrl.share.send import CARD
from olmrl.share.upload import Item

NOTHING = "none"
"""What `--base-model` says of a model that was trained from nothing."""
OWNED = ("model*.safetensors", weight_files.INDEX)
"""Weights of an earlier push, which would be mixed with this one's."""
_SNAPSHOT = re.compile(r"/models--([^/]+?)--([^/]+)/snapshots/")
_MOST_BASES = 10
TOKENIZERS = ({"tokenizer.json"}, {"vocab.json", "merges.txt"}, {"tokenizer.model"})
"""Files of which one set must be there."""


class Gathered(NamedTuple):
    """Files of a model."""

    items: list[Item]
    """To share; the card is not among them."""
    left: list[str]
    """Names of what stays here."""


def gather(folder: str) -> Gathered:
    """The files of a model folder that make the model.

    Raises:
        ValueError: the model is not whole, is quantised, or a file leads elsewhere.
    """
    names = sorted(os.listdir(folder))
    if weight_files.CONFIG not in names:
        raise ValueError(f"{folder}: is not complete (no {weight_files.CONFIG}); see {_again()}")
    wrapped = weight_files.check_loadable(folder)
    if wrapped:
        raise ValueError(f"{folder}: all its tensors are named {wrapped}...; see {_again()}")
    config = json.loads((Path(folder) / weight_files.CONFIG).read_text("utf-8"))
    weight_files.check_trainable(folder, config, f"push shares a run's own weights; see {_again()}")
    if not any(needed <= set(names) for needed in TOKENIZERS):
        raise ValueError(f"{folder}: has no tokenizer (tokenizer.json); see {_again()}")
    image_settings(folder)
    if chat_template(folder) is None and "tokenizer_config.json" not in names:
        raise ValueError(f"{folder}: has no chat template; see {_again()}")
    shards = {tensor.file for tensor in weight_files.stored_tensors(folder).values()}
    known = {weight_files.CONFIG, *weight_files.COMPANIONS, *shards}
    known |= {weight_files.INDEX} if shards != {weight_files.SINGLE} else set()
    items = [Item(name, os.path.join(folder, name)) for name in names if name in known]
    for item in items:
        path = Path(str(item.content))
        if path.is_symlink():
            raise ValueError(f"{path}: is a link to {os.readlink(path)}; put the file itself there")
        if item.size == 0:
            raise ValueError(f"{path}: is empty; see {_again()}")
    return Gathered(items, [name for name in names if name not in {*known, CARD}])


def _again() -> str:
    return "`olmrl checkpoint hf`, which writes a run's model anew"


def base_of(path: str, named: str | None) -> str | None:
    """Name on the Hub of the model that a run started from; None: it was trained from nothing.

    Args:
        path: `model.path` of the run.
        named: `--base-model`, which goes first.

    Raises:
        ValueError: it is not known.
    """
    if named == NOTHING:
        return None
    found = named or _known_base(path)
    if found is None:
        raise ValueError(
            f"{path}: a folder of this machine, which does not say what it was made from; name the "
            f"base model as on the Hub with --base-model org/name (`{NOTHING}`: trained from "
            "nothing)"
        )
    check_repo(found)
    return found


def _known_base(path: str) -> str | None:
    """Through the cards of the runs that a run stands on, down to a name on the Hub."""
    for _ in range(_MOST_BASES):
        snapshot = _SNAPSHOT.search(path + "/")
        if snapshot:
            return f"{snapshot[1]}/{snapshot[2]}"
        if not os.path.isdir(path):
            return None if path.startswith(("/", ".", "~")) or path.count("/") != 1 else path
        config = card_config(readme(path))
        if config is None or config["model"]["path"] == path:
            return None
        path = config["model"]["path"]
    return None


def licence_of(base: str | None) -> str | None:
    """What the card of a base model says of its licence, if this machine has the card."""
    if base is None:
        return None
    found = huggingface_hub.try_to_load_from_cache(base, CARD)
    if not isinstance(found, str):
        return None
    _, _, rest = Path(found).read_text("utf-8", errors="replace").partition("---\n")
    try:
        head = parse_yaml(rest.partition("\n---")[0], CARD)
    except ConfigError:
        return None
    said = head.get("license_name") or head.get("license")
    return said if isinstance(said, str) else None


def prompt_text(config: Mapping[str, Any]) -> str | None:
    """The prompt of a run that has one of its own, in a file."""

    def walk(value: Any, key: str, visit: Callable[[str], None]) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                walk(inner, str(name), visit)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                walk(inner, key, visit)
        elif key == "prompt" and isinstance(value, str) and value.startswith("file:"):
            visit(value.removeprefix("file:"))

    places: list[str] = []
    walk(config.get("data", {}), "", places.append)
    here = [Path(place) for place in places if Path(place).is_file()]
    return here[0].read_text("utf-8") if here else None
