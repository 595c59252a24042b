"""Stage f: a page's way from pixels to features.

Cutting a page into patches on one core, its bytes to the device, normalisation there (which must be
bit-equal to the CPU's), and the vision tower forward and backward; each in seconds a page.
"""

from __future__ import annotations

import numpy as np
import torch
from measure import forget_peak, peak_bytes, peak_flops, timed, typical
from shapes import FAMILY, Sizes, build, deepest, make_example, make_page, planned, sizes
from stage import Context

from olmrl.config.schema import LearnerConfig, ModelConfig
from olmrl.data.pack import pack_examples
from olmrl.learner.packed import prepare_inputs
from olmrl.models.cost import CostModel
from olmrl.models.patches import PUBLISHED, ImagePatcher
from olmrl.models.pixels import normalise

MODEL = ModelConfig(path="random", dtype="bfloat16", master_dtype="float32")
PAGES = 4


def run(context: Context) -> None:
    """See the module."""
    wanted = sizes(context)
    side = 112 if context.rehearsal else 1288
    image = np.random.default_rng(0).integers(0, 256, (side, side * 17 // 22, 3), np.uint8)
    patcher = ImagePatcher(FAMILY.image_settings)
    patches, (_, rows, columns) = patcher.encode(image)
    cut_s = typical("cpu", lambda: patcher.encode(image), 5)
    context.report(
        "cut on one core",
        pixels=list(image.shape[:2]),
        grid=[rows, columns],
        page_s=round(cut_s, 6),
        patches_per_s=round(len(patches) / cut_s),
    )
    copied = copy_and_normalise(context, patches)
    tower_s = tower(context, wanted, (rows, columns))
    parts = {"cut": cut_s, **copied, "tower": tower_s}
    on_device = sum(seconds for name, seconds in parts.items() if name != "cut")
    context.report(
        "a page",
        seconds={name: round(seconds, 6) for name, seconds in parts.items()},
        tower_share_of_device=round(tower_s / on_device, 4),
        cores_that_feed_the_tower=round(cut_s / on_device, 2),
    )


def copy_and_normalise(context: Context, patches: np.ndarray) -> dict[str, float]:
    """Seconds of the two steps for one page."""
    device = context.device
    plain = torch.from_numpy(patches.copy())
    pinned = plain if context.rehearsal else plain.pin_memory()
    # to() gives the same tensor back where it is already there
    copy_s = typical(device, lambda: plain.to(device, copy=True), 9)
    pinned_s = typical(device, lambda: pinned.to(device, copy=True, non_blocking=True), 9)
    there = plain.to(device)
    normal_s = typical(device, lambda: normalise(there, PUBLISHED, torch.bfloat16), 9)
    with context.case("uint8 to the device and normalised there") as row:
        equal = all(
            torch.equal(normalise(there, PUBLISHED, kind).cpu(), normalise(plain, PUBLISHED, kind))
            for kind in (torch.float32, torch.bfloat16)
        )
        row |= {
            "bytes": patches.nbytes,
            "copy_gb_per_s": round(patches.nbytes / copy_s / 1e9, 3),
            "pinned_gb_per_s": round(patches.nbytes / pinned_s / 1e9, 3),
            "normalise_s": round(normal_s, 6),
            "bit_equal_to_cpu": equal,
            "ok": equal,
        }
    return {"copy": copy_s, "normalise": normal_s}


def tower(context: Context, wanted: Sizes, grid: tuple[int, int]) -> float:
    """Seconds of the tower a page, forward and backward, with activation checkpointing."""
    device = context.device
    learner = LearnerConfig(use_gpu=not context.rehearsal)
    tokens = grid[0] * grid[1] // 4 + 8
    examples = [
        make_example(make_page(FAMILY, wanted.vision, tokens, grid, k), 4, k) for k in range(PAGES)
    ]
    (batch,) = pack_examples(examples, 10**6, wanted.vision)
    deepest(context, wanted, lambda shape: planned(shape, MODEL, learner, [batch]))
    forget_peak(device)
    # computed in the dtype of its weights, so that the tower can be called by itself
    alone = MODEL.model_copy(update={"master_dtype": "bfloat16"})
    strategy = build(wanted, 1, alone, learner, device)
    model = strategy.policy.model
    inputs = prepare_inputs(batch, model.config, strategy.policy.kernel, device)
    prepare_s = typical(
        device, lambda: prepare_inputs(batch, model.config, strategy.policy.kernel, device)
    )
    network, vision = FAMILY.tower(model), inputs.vision

    def forward() -> torch.Tensor:
        return FAMILY.encode_images(
            network, vision.patches_VK, vision.grid, vision.layout
        ).merged_FH

    def both() -> None:
        forward().float().sum().backward()

    with torch.no_grad():
        forward_s = typical(device, forward)
    seconds = timed(device, both)
    page_s = sorted(seconds)[1] / PAGES
    cost = CostModel.of(strategy.shape).parts(0, 0, 0, batch.image_grid_thw)
    peak, said = peak_flops(device)
    context.report(
        "tower",
        pages=PAGES,
        patches=len(batch.patches),
        prepare_s=round(prepare_s, 6),
        forward_s=round(forward_s, 6),
        forward_backward_s=round(sorted(seconds)[1], 6),
        patches_per_s=round(len(batch.patches) / page_s / PAGES),
        forward_mfu=round(cost / forward_s / peak, 4) if peak else None,
        mfu_of=said,
        peak_bytes=peak_bytes(device),
    )
    return page_s
