"""Bytes of tensors alive at a time, on any device: what `torch.cuda.max_memory_allocated` tells on
a GPU, without the allocator's rounding."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts every storage that an operation makes until it is freed; views count once.

    What existed before counts nothing. `peak` is the largest sum since the start (or since the
    last `reset`).
    """

    def __init__(self):
        super().__init__()
        self._alive = weakref.WeakKeyDictionary()
        self.now = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        known = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if is_tensor(t)}
        result = function(*args, **(kwargs or {}))
        for tensor in filter(is_tensor, tree_leaves(result)):
            storage = tensor.untyped_storage()
            if id(storage) not in known and storage not in self._alive:
                self._watch(storage)
        return result

    def _watch(self, storage):
        size = storage.nbytes()
        self._alive[storage] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size):
        self.now -= size

    def reset(self):
        self.peak = self.now


def is_tensor(value):
    return isinstance(value, torch.Tensor)
