"""The second process of stage g; it imports little, as it is started afresh."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torch

from olmrl.weight_sync.checksum import tensor_hash


def receive(inbox: Any, outbox: Any) -> None:
    """Copy each bucket, and answer its checksum and the copy's seconds; None ends it."""
    while (bucket := inbox.get()) is not None:
        started = perf_counter()
        held = bucket.clone()
        if held.is_cuda:
            torch.cuda.synchronize()
        copied_s = perf_counter() - started
        del bucket
        outbox.put((tensor_hash(held), copied_s))
