"""Patches as the model takes them: bytes turned into normalised numbers where they are used."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from olmrl.models.patches import Normalisation


def normalise(patches_VK: Tensor, normalisation: Normalisation, dtype: torch.dtype) -> Tensor:
    """Normalise patches on their device, and repeat the frame.

    Bit-equal to the image processor's float32 values, cast to `dtype`, on any device.

    Args:
        patches_VK: [V, K] bytes of one frame by channel (`ImagePatcher.encode`).
        normalisation: Of the model's image processor.
        dtype: Of the result.

    Returns:
        [V, K x frames], by channel and frame.

    Raises:
        ValueError: the patches are not bytes (they were normalised already).
    """
    if patches_VK.dtype != torch.uint8:
        raise ValueError(f"patches are {patches_VK.dtype}, not yet normalised ones are torch.uint8")
    table_CL = _table(normalisation, patches_VK.device, dtype)
    bytes_VCP = patches_VK.unflatten(1, (len(table_CL), -1))
    count, channels, size = bytes_VCP.shape
    shape = (count, channels, normalisation.frames, size)
    pixels_VCFP = torch.empty(shape, dtype=dtype, device=patches_VK.device)
    for channel, table_L in enumerate(table_CL):  # one by one: an index takes four bytes
        values_VP = table_L[bytes_VCP[:, channel].int()]
        pixels_VCFP[:, channel] = values_VP.unsqueeze(1)
    return pixels_VCFP.flatten(1)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _table(normalisation: Normalisation, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[3, 256] value of each byte in each channel."""
    return torch.from_numpy(normalisation.table()).to(device, dtype)
