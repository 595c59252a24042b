"""What a model folder or Hub repository says of itself in JSON, read without building anything."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from math import prod
from typing import Any

import huggingface_hub
from tokenizers import Tokenizer

from olmrl.errors import values_of
from olmrl.models.family import Family
from olmrl.models.mrope import VisionTokens
from olmrl.models.patches import ImageSettings
from olmrl.models.places import refuse_no_folder
from olmrl.models.registry import family, family_in
from olmrl.models.weight_files import stored_tensors, wrapping
from olmrl.progress import waiting

WEIGHTS = "model.safetensors"
_PREPROCESSOR = "preprocessor_config.json"
_PROCESSOR_FILE = "processor_config.json"
_PROCESSOR = r"Qwen\d\w*ImageProcessor\w*"
"""Image processors of transformers that cut images alike: names have changed, the rule has not."""


def model_config(model_path: str) -> dict[str, Any]:
    """A model's config.json.

    Raises:
        ValueError: no such model, of no family that olmrl trains, or without a vision part.
    """
    config = _read(model_path, "config.json", needed=True)
    if config is None:
        raise ValueError(f"{model_path}: no model can be loaded from there (no config.json)")
    if not isinstance(config, dict):
        raise ValueError(f"{model_path}: its config.json is {type(config).__name__}, not a mapping")
    family_in(config, model_path)
    return dict(config)


def model_family(model_path: str) -> Family:
    """A model's family; see `model_config` for errors."""
    return family(model_config(model_path)["model_type"], model_path)


def vision_tokens(model_path: str) -> VisionTokens:
    """How a model writes images into its token stream; see `model_config` for errors."""
    config = model_config(model_path)
    with values_of(f"{model_path}: config.json"):
        return family(config["model_type"], model_path).placeholders(config)


def image_settings(model_path: str) -> ImageSettings:
    """Settings of the image processor, from either form in which transformers writes them.

    Raises:
        ValueError: the model has no image processor, or one that its vision tower does not fit.
    """
    with values_of(f"{model_path}: {_PROCESSOR_FILE} or {_PREPROCESSOR}"):
        return _image_settings(model_path)


def _image_settings(model_path: str) -> ImageSettings:
    processor = _read(model_path, _PROCESSOR_FILE) or {}
    file = _PROCESSOR_FILE if processor.get("image_processor") else _PREPROCESSOR
    values = processor.get("image_processor") or _read(model_path, _PREPROCESSOR)
    if values is None:
        raise ValueError(
            f"{model_path}: no image processor (preprocessor_config.json or processor_config.json)"
        )
    _check_kind(values, f"{model_path}: {file}")
    size = values.get("size") or {}
    # Older files name the bounds min_pixels and max_pixels; where both forms stand, those win.
    bounds = {
        "min_pixels": values.get("min_pixels") or size.get("shortest_edge"),
        "max_pixels": values.get("max_pixels") or size.get("longest_edge"),
    }
    norm = {
        "rescale_factor": values.get("rescale_factor"),
        "mean": _numbers(values.get("image_mean")),
        "std": _numbers(values.get("image_std")),
        "frames": values.get("temporal_patch_size"),
    }
    default = model_family(model_path).image_settings
    given = {name: values.get(name) for name in ("patch_size", "merge_size", "resample")} | bounds
    normalisation = replace(default.normalisation, **_set(norm))
    settings = replace(default, **_set(given), normalisation=normalisation)
    _check_fits(settings, default, model_config(model_path), f"{model_path}: {file}")
    return settings


def _check_kind(values: dict[str, Any], where: str) -> None:
    """Refuse an image processor that does not cut images as those of the Qwen-VL families do."""
    kind = values.get("image_processor_type")
    if kind is not None and not re.fullmatch(_PROCESSOR, kind):
        raise ValueError(
            f"{where}: image_processor_type is {kind}, and olmrl cuts images as "
            "Qwen2VLImageProcessor does; the file is of another model"
        )
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if values.get(step) is False:
            raise ValueError(f"{where}: {step} is false, and olmrl always does it")


def _check_fits(
    settings: ImageSettings, default: ImageSettings, config: dict[str, Any], where: str
) -> None:
    """Refuse an image processor that is of another model than the vision tower."""
    tower = config["vision_config"]
    pairs = {
        ("patch_size", "patch_size"): (settings.patch_size, default.patch_size),
        ("merge_size", "spatial_merge_size"): (settings.merge_size, default.merge_size),
        ("temporal_patch_size", "temporal_patch_size"): (
            settings.normalisation.frames,
            default.normalisation.frames,
        ),
    }
    if not 0 < settings.min_pixels <= settings.max_pixels:
        raise ValueError(
            f"{where}: an image must have {settings.min_pixels} to {settings.max_pixels} pixels "
            "(min_pixels, max_pixels or size), and none can"
        )
    for (key, of_tower), (found, usual) in pairs.items():
        wanted = tower.get(of_tower, usual)
        if found != wanted:
            raise ValueError(
                f"{where}: {key} is {found}, and the vision tower in config.json takes {wanted} "
                f"({of_tower}); the file is of another model"
            )


def check_tokenizer(model_path: str) -> None:
    """See that a model's tokenizer has the tokens that a page is put to the model with.

    Raises:
        ValueError: no tokenizer.json, one that is damaged, or one of another model.
    """
    path = _file(model_path, "tokenizer.json")
    if path is None:
        raise ValueError(f"{model_path}: has no tokenizer.json")
    try:
        vocabulary = Tokenizer.from_file(path).get_vocab()
    except Exception as error:  # its only type
        raise ValueError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
    with values_of(f"{model_path}: tokenizer_config.json"):
        more = (_read(model_path, "tokenizer_config.json") or {}).get("added_tokens_decoder") or {}
        vocabulary |= {token["content"]: int(number) for number, token in more.items()}
    known = model_family(model_path)
    for token in (known.end_token, known.image_token):
        if token not in vocabulary:
            raise ValueError(f"{model_path}: its tokenizer lacks the token {token}")
    if vocabulary[known.image_token] != vision_tokens(model_path).image_token_id:
        raise ValueError(
            f"{model_path}: tokenizer and config.json disagree on the id of {known.image_token}"
        )


def check_count(model_path: str) -> None:
    """See that a local model has as many plain weights as its config.json describes.

    Which ones are missing is said on loading (`loading.load_network`), which takes torch.

    Raises:
        ValueError: it has fewer, or more.
    """
    config = model_config(model_path)
    if "quantization_config" in config or not _has_safetensors(model_path):
        return
    known = model_family(model_path)
    try:
        shape = known.shape(config)
    except (KeyError, TypeError):  # sizes that config.json leaves to transformers' defaults
        return
    stored = stored_tensors(model_path)
    prefix = wrapping(stored)
    sizes = {name.removeprefix(prefix): prod(entry.shape) for name, entry in stored.items()}
    if shape.tied:
        sizes.pop("lm_head.weight", None)
    count = sum(size for name, size in sizes.items() if not re.fullmatch(known.left_out, name))
    if count != shape.parameters:
        raise ValueError(
            f"{model_path}: its files hold {count:,} weights, its config.json describes "
            f"{shape.parameters:,}; one of them is of another model, or incomplete"
        )


def _has_safetensors(folder: str) -> bool:
    return any(name.endswith(".safetensors") for name in os.listdir(folder))


def left_out(model_path: str) -> tuple[int, int]:
    """Number and bytes of the tensors in a loaded model's files that its family leaves out."""
    pattern = model_family(model_path).left_out
    index = _read(model_path, f"{WEIGHTS}.index.json")
    files = {WEIGHTS}
    if index is not None:
        files = {file for name, file in index["weight_map"].items() if re.fullmatch(pattern, name)}
    headers = (_header(path) for file in files if (path := _file(model_path, file)) is not None)
    ranges = [
        entry["data_offsets"]
        for header in headers
        for name, entry in header.items()
        if re.fullmatch(pattern, name)
    ]
    return len(ranges), sum(end - start for start, end in ranges)


def _header(path: str) -> dict[str, Any]:
    """Name, dtype and place of each tensor in a safetensors file."""
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header: dict[str, Any] = json.loads(stream.read(length))
    return header


def _numbers(values: Any) -> tuple[float, ...] | None:
    return None if values is None else tuple(values)


def _set(values: dict[str, Any]) -> dict[str, Any]:
    """What is given at all; the rest is as the family has it."""
    return {name: value for name, value in values.items() if value is not None}


def chat_template(model_path: str) -> str | None:
    """Chat template of the processor, which may differ from the tokenizer's own."""
    jinja = _file(model_path, "chat_template.jinja")
    if jinja is not None:
        with open(jinja, encoding="utf-8") as stream:
            return stream.read()
    legacy = _read(model_path, "chat_template.json")
    with values_of(f"{model_path}: chat_template.json"):
        return str(legacy["chat_template"]) if legacy is not None else None


def readme(model_path: str) -> str:
    """A model's card; empty if it has none."""
    path = _file(model_path, "README.md")
    if path is None:
        return ""
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def _read(model_path: str, name: str, *, needed: bool = False) -> Any:
    path = _file(model_path, name, needed=needed)
    if path is None:
        return None
    with open(path, encoding="utf-8") as stream:
        try:
            return json.load(stream)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not JSON ({error})") from error


def _file(model_path: str, name: str, *, needed: bool = False) -> str | None:
    """Local path of a model's file; None where the model has no such file.

    Also None for one that is not `needed`, was not fetched before, and cannot be asked for.
    """
    if os.path.isdir(model_path):
        path = os.path.join(model_path, name)
        return path if os.path.isfile(path) else None
    refuse_no_folder("", model_path)
    try:
        with waiting(f"asking the Hub for {name} of {model_path}"):
            return huggingface_hub.hf_hub_download(model_path, name)
    except huggingface_hub.errors.LocalEntryNotFoundError as error:
        if not needed:
            return None
        raise ValueError(
            f"{model_path}: no such folder here; as a name on the Hub it was not fetched before, "
            "and the Hub cannot be reached (no network, or HF_HUB_OFFLINE is set)"
        ) from error
    except huggingface_hub.errors.EntryNotFoundError:
        return None
    except huggingface_hub.errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"{model_path}: no such folder here, and no such model on the Hub (a private one needs "
            "`hf auth login`)"
        ) from error
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{model_path}: no model can be loaded from there ({reason})") from error
