"""Whether a teacher can judge the policy's tokens: it must be given the very same row."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from olmrl.data.encode import Encoder, EncoderSpec
from olmrl.data.prompts import Order
from olmrl.models.files import image_settings


def check_teacher(policy: EncoderSpec, path: str) -> None:
    """Compare a teacher's tokenizer, image grid and chat with the policy's.

    Args:
        policy: How the run encodes pages.
        path: The teacher's folder or name.

    Raises:
        ValueError: it cannot be read, or would see other tokens or other patches.
    """
    try:
        ours, theirs = policy.build(), replace(policy, model_path=path).build()
        reason = _difference(ours, theirs)
    except ValueError as error:
        raise ValueError(f"algorithm.teacher.path: {error}") from error
    if reason:
        raise ValueError(
            f"algorithm.teacher.path: {path} cannot judge what {policy.model_path} writes: it has "
            + reason
        )


def _difference(ours: Encoder, theirs: Encoder) -> str:
    return _tokens(ours, theirs) or _patches(ours, theirs) or _chat(ours, theirs)


def _tokens(ours: Encoder, theirs: Encoder) -> str:
    mine, other = ours.tokenizer.get_vocab(), theirs.tokenizer.get_vocab()
    different = [
        token for token in mine.keys() | other.keys() if mine.get(token) != other.get(token)
    ]
    if not different:
        return ""
    first = min(different, key=lambda token: (mine.get(token, len(mine)), token))
    return (
        f"another tokenizer ({len(different)} tokens are not alike, e.g. {first!r} is "
        f"{other.get(first, 'missing')} there and {mine.get(first, 'missing')} here)"
    )


def _patches(ours: Encoder, theirs: Encoder) -> str:
    def grid(encoder: Encoder) -> tuple[int, int]:
        return image_settings(encoder.model_path).patch_size, encoder.vision.merge_size

    mine, other = grid(ours), grid(theirs)
    if mine == other:
        return ""
    return (
        f"another image grid (patches of {other[0]} pixels, {other[1]} a side to a token there; "
        f"{mine[0]} and {mine[1]} here)"
    )


def _chat(ours: Encoder, theirs: Encoder) -> str:
    for order in get_args(Order):
        mine, other = ours.chat("x", order=order), theirs.chat("x", order=order)
        if mine != other:
            return f"another chat template ({other!r} there, {mine!r} here)"
    return ""
