"""Clocks, memory and bandwidths of a device, the same calls on a GPU and on a CPU."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import set_checkpoint_early_stop

from olmrl.hardware import find_gpu


def synchronize(device: str) -> None:
    """Wait for everything that was asked of the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def mark(device: str) -> Any:
    """A point in the device's time: an event on its stream, or the time on a CPU."""
    if device != "cuda":
        return perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between(start: Any, end: Any) -> float:
    """Seconds between two marks; the device must have reached both (`synchronize`)."""
    if isinstance(start, float):
        return end - start
    return float(start.elapsed_time(end)) / 1e3


def once(device: str, work: Callable[[], Any]) -> float:
    """Seconds of one run."""
    synchronize(device)
    start = mark(device)
    work()
    end = mark(device)
    synchronize(device)
    return between(start, end)


def timed(device: str, work: Callable[[], Any], repeats: int = 3) -> list[float]:
    """Seconds of each of some runs, after one that does not count."""
    work()
    return [once(device, work) for _ in range(repeats)]


def typical(device: str, work: Callable[[], Any], repeats: int = 3) -> float:
    """Median of `timed`."""
    return statistics.median(timed(device, work, repeats))


def forget_peak(device: str) -> None:
    """Free what nobody refers to, and start to look for the peak anew."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_bytes(device: str) -> int | None:
    """Most bytes of tensors at a time since `forget_peak`; None on a CPU, which does not count."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else None


def card_name(device: str) -> str | None:
    """The card as its driver names it; None on a CPU."""
    return torch.cuda.get_device_name() if device == "cuda" else None


def peak_flops(device: str) -> tuple[float | None, str]:
    """Data-sheet operations per second of dense bfloat16 products, and where they are from."""
    name = card_name(device)
    gpu = find_gpu(name) if name else None
    if gpu is None:
        return None, f"no peak is known of {name or 'a CPU'}, so there is no MFU"
    return gpu.flops, f"{name}: {gpu.flops / 1e12:.0f} TFLOP/s dense bfloat16 (data sheet)"


def copy_gb_per_s(source: Tensor, target: Tensor) -> float:
    """GB/s of a plain copy: the memcpy that everything else is compared with (bytes read once)."""
    device = "cuda" if "cuda" in (source.device.type, target.device.type) else "cpu"
    seconds = typical(device, lambda: target.copy_(source, non_blocking=True))
    return source.nbytes / seconds / 1e9


class Parts:
    """Seconds in groups of modules, forward and backward, by marks on the device's stream.

    A module's time is without that of watched modules inside it, recomputation of checkpointed
    activations included wherever it happens; what no group covers is the rest of the step.
    """

    def __init__(self, device: str, groups: dict[str, list[nn.Module]]) -> None:
        self._device = device
        self._open: list[tuple[str, nn.Module, Any]] = []
        self._spans: list[tuple[str, str | None, Any, Any]] = []
        """(group, group around it, start, end)"""
        self._names = list(groups)
        self._handles = [
            handle
            for name, modules in groups.items()
            for module in modules
            for handle in self._watch(name, module)
        ]

    def _watch(self, name: str, module: nn.Module) -> list[Any]:
        def begin(*_: object) -> None:
            self._open.append((name, module, mark(self._device)))

        def end(*_: object) -> None:
            if self._open and self._open[-1][1] is module:
                group, _, start = self._open.pop()
                around = self._open[-1][0] if self._open else None
                self._spans.append((group, around, start, mark(self._device)))

        return [
            module.register_forward_pre_hook(begin),
            module.register_forward_hook(end),
            module.register_full_backward_pre_hook(begin),
            module.register_full_backward_hook(end),
        ]

    def seconds(self, work: Callable[[], Any]) -> dict[str, float]:
        """Seconds of some work by group, and in `all` of the whole; ends the watch."""
        synchronize(self._device)
        start = mark(self._device)
        # a recomputation that stops early leaves modules without their end
        with set_checkpoint_early_stop(False):
            work()
        end = mark(self._device)
        synchronize(self._device)
        for handle in self._handles:
            handle.remove()
        found = dict.fromkeys(self._names, 0.0)
        for group, around, first, last in self._spans:
            found[group] += between(first, last)
            if around is not None:
                found[around] -= between(first, last)
        return {**{k: round(v, 6) for k, v in found.items()}, "all": round(between(start, end), 6)}


def kernels(device: str, work: Callable[[], Any], most: int = 40) -> list[dict[str, Any]]:
    """The device's most expensive kernels (or CPU operators) during some work."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        kinds = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profile:
        work()
        synchronize(device)
    attribute = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    found = sorted(profile.key_averages(), key=lambda event: -getattr(event, attribute))
    return [
        {
            "name": event.key[:90],
            "calls": event.count,
            "s": round(getattr(event, attribute) / 1e6, 6),
        }
        for event in found[:most]
    ]
