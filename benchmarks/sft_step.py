"""One SFT step: olmrl's packed core, the public trainer's loop, TRL; and the learner's input.

    python benchmarks/sft_step.py --trl-python VENV/bin/python      # a venv with trl, see below

All train the same small Qwen2.5-VL in float32 on the same pages with AdamW, with one thread, one
after the other in separate processes. `olmrl packed` runs a step's pages as one row, which needs
the memory of eight pages at once; olmrl's two other variants limit it. `public loop` does what the
olmocr trainer does: one page per forward pass through transformers' model, its loss divided by the
number of pages, backward, then clip and step. `trl` is SFTTrainer with batch 1 and accumulation;
its own image processing and tokenization are reported separately, as `load`. CPU seconds do not
depend on other load, wall seconds do. `input` paces a consumer like one and two learners of a 7B
model (PACE_S per page) behind the real stream at 1288 px, and measures how long it waits.

The other environment: uv venv VENV; uv pip install --python VENV/bin/python --override
launch/cpu_overrides.txt "torch==2.13.0+cpu" torchvision==0.28.0 transformers==5.19.0 trl . (the
last is olmrl, whose rewards grpo_step.py uses on both sides)
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", RAY_AUTH_MODE="disabled")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import ray
import torch
import transformers
from PIL import Image
from rendering import STEPS, write_pages
from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

from olmrl.cluster import Plan, Role
from olmrl.cluster.connect import connect
from olmrl.config.schema import LearnerConfig, ModelConfig, OptimizerConfig
from olmrl.data.encode import EncoderSpec
from olmrl.data.encoded import IGNORED, EncodedExample
from olmrl.data.pack import pack_examples
from olmrl.data.page import scan_pairs
from olmrl.data.page_sets import ExampleWork
from olmrl.data.payload import unpack_block
from olmrl.data.sets import PageItem, PageSet
from olmrl.data.steps import StepContext, build_pipeline
from olmrl.data.streams import OrderedStream
from olmrl.learner.build import build_strategy, head_spec
from olmrl.learner.core import SftLearner
from olmrl.models.pixels import normalise
from olmrl.synth.model import make_model

RESULTS = Path(__file__).parent / "results" / "sft_step.json"
HERE = Path(__file__).parent
LONGEST, PUBLISHED_LONGEST = 504, 1288
PAGES_PER_STEP, LR = 8, 1e-4
HIDDEN, LAYERS, VOCABULARY = 128, 4, 8192
PACE_S = 0.37
"""Assumed: seconds per page of a 7B learner on one H100 at 40 % MFU (2.7 k tokens)."""
HEAD_START_S = 5.0
"""Seconds from the first page to the paced learners' start; loading a 7B model takes longer."""


def steps_at(longest: int) -> list[dict[str, object]]:
    """The published steps without augmentation, at another size."""
    kept = [step for step in STEPS if step["name"] != "RotationAugmentation"]
    sized = {"name": "PDFRenderer", "target_longest_image_dim": longest}
    return [sized if step["name"] == "PDFRenderer" else step for step in kept]


def prepare(work: Path, count: int) -> None:
    """Make pages, the model, and for TRL the images and texts."""
    write_pages(work / "pages", count)
    folder = make_model(
        [p.read_text() for p in (work / "pages").glob("*.md")], work / "model", vocab_size=640
    )
    config = AutoConfig.from_pretrained(folder)
    text = config.text_config
    text.hidden_size = config.vision_config.out_hidden_size = HIDDEN
    text.num_hidden_layers, text.vocab_size = LAYERS, VOCABULARY
    text.layer_types = None
    torch.manual_seed(0)
    config = type(config).from_dict(config.to_dict())
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    rows = []
    encoder = EncoderSpec(str(folder)).build()
    pipeline = build_pipeline(steps_at(LONGEST))
    for source in scan_pairs(str(work / "pages")).sources:
        sample = pipeline.run(source, StepContext(np.random.default_rng(0), encoder))
        path = source.pdf_path.replace(".pdf", ".png")
        Image.fromarray(sample.image).save(path)
        rows.append({"image": path, "prompt": sample.instruction, "response": sample.response})
    (work / "rows.json").write_text(json.dumps(rows))


def load_examples(work: Path) -> list[EncodedExample]:
    sources = scan_pairs(str(work / "pages")).sources
    pipeline = build_pipeline(steps_at(LONGEST))
    pages = PageSet("bench", tuple(PageItem(source, pipeline) for source in sources))
    make = ExampleWork(pages, EncoderSpec(str(work / "model")), 16384, 0)
    return [make.example(0, k, k) for k in range(len(sources))]


def olmrl_step(
    work: Path, token_budget: int = 16384, recompute: bool = False
) -> Callable[[Sequence[EncodedExample]], float]:
    model = ModelConfig(path=str(work / "model"), dtype="float32")
    optimizer = OptimizerConfig(lr=LR, schedule="constant")
    learner = LearnerConfig(
        use_gpu=False,
        wrap="root",
        token_budget=token_budget,
        activation_checkpointing=recompute,
        optimizer=optimizer,
    )
    strategy = build_strategy(model, learner, head_spec(learner), total_steps=1000)
    core = SftLearner(strategy)
    vision = EncoderSpec(str(work / "model")).build().vision

    def step(examples: Sequence[EncodedExample]) -> float:
        measured = core.step(pack_examples(examples, learner.token_budget, vision))
        return measured["loss/sft"].value()

    return step


def public_step(work: Path) -> Callable[[Sequence[EncodedExample]], float]:
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        work / "model", dtype=torch.float32, attn_implementation="sdpa"
    ).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    image_id = model.config.image_token_id
    normalisation = EncoderSpec(str(work / "model")).build().normalisation

    def step(examples: Sequence[EncodedExample]) -> float:
        total = tokens = 0.0
        for example in examples:
            prompt = example.page.prompt_ids
            ids = torch.from_numpy(np.concatenate([prompt, example.response_ids]))[None]
            labels = np.concatenate([np.full(len(prompt), IGNORED), example.labels])
            loss = model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == image_id).int(),
                labels=torch.from_numpy(labels)[None],
                pixel_values=normalise(
                    torch.from_numpy(example.page.patches), normalisation, torch.float32
                ),
                image_grid_thw=torch.from_numpy(example.page.image_grid_thw),
                use_cache=False,
            ).loss
            (loss / len(examples)).backward()
            total += loss.item() * len(example.labels)
            tokens += len(example.labels)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return total / tokens

    return step


CONTESTANTS = {
    "olmrl packed": olmrl_step,
    "olmrl one page a row": partial(olmrl_step, token_budget=1),
    "olmrl packed, recomputing": partial(olmrl_step, recompute=True),
    "public loop": public_step,
}


def run_contestant(name: str, work: Path, steps: int) -> None:
    """Time the steps of one contestant in this process, and print them."""
    torch.set_num_threads(1)
    examples = load_examples(work)
    step = CONTESTANTS[name](work)
    before = peak_mib()
    wall, cpu, losses = [], [], []
    for number in range(steps + 1):  # the first one warms up
        first = number * PAGES_PER_STEP % len(examples)
        started, used = time.perf_counter(), time.process_time()
        losses.append(step(examples[first : first + PAGES_PER_STEP]))
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    result = {"wall": wall[1:], "cpu": cpu[1:], "losses": losses}
    result |= {"peak": peak_mib(), "before": before, "load": [0.0], "version": ""}
    print(json.dumps(result))


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def contest(command: list[str], work: Path, steps: int, tokens: float) -> dict[str, object]:
    done = subprocess.run(
        [*command, "--work", str(work), "--steps", str(steps)],
        capture_output=True, text=True, check=False, cwd=HERE,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr[-3000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    cpu = statistics.median(found["cpu"])
    return {
        "cpu_s_per_step": round(cpu, 3),
        "wall_s_per_step": round(statistics.median(found["wall"]), 3),
        "tokens_per_cpu_s": round(tokens / cpu),
        "load_cpu_s_per_step": round(statistics.median(found["load"]), 3),
        "peak_rss_mib": round(found["peak"]),
        "peak_rss_beyond_start_mib": round(found["peak"] - found["before"]),
        "loss_of_steps": [round(loss, 4) for loss in found["losses"]],
        "version": found["version"],
    }


def measure_input(work: Path, cpus: int, pages: int) -> dict[str, object]:
    """The stream's rate at the published size, and how long paced learners wait for it."""
    sources = scan_pairs(str(work / "pages")).sources
    pipeline = build_pipeline(steps_at(PUBLISHED_LONGEST))
    items = tuple(PageItem(source, pipeline) for source in sources)
    items = (items * (pages // len(items) + 1))[:pages]
    spec = EncoderSpec(str(work / "model"))
    connect(None, cpus, Plan((Role("data", 1, float(cpus), 0.0),), None), False)
    found: dict[str, object] = {"cpus": cpus, "pages": pages}
    for name, pace in (("free", 0.0), ("1 learner", PACE_S), ("2 learners", PACE_S / 2)):
        stream = iter(
            OrderedStream(
                ExampleWork(PageSet("b", items), spec, 16384, 1), seed=1, epochs=1, prefetch=64
            )
        )
        first = next(stream)  # workers start
        time.sleep(HEAD_START_S if pace else 0.0)
        waited, started = 0.0, time.perf_counter()
        for _ in range(pages - 1):
            asked = time.perf_counter()
            unpack_block(ray.get(next(stream).payload))
            waited += time.perf_counter() - asked
            time.sleep(pace)
        seconds = time.perf_counter() - started
        if pace:
            found[f"share waited, {name}"] = round(waited / seconds, 4)
        else:
            found["pages_per_s"] = round((pages - 1) / seconds, 1)
        found["bytes_per_page"] = first.payload_bytes
    ray.shutdown()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trl-python", help="interpreter of an environment with trl")
    parser.add_argument("--pages", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--input-pages", type=int, default=96)
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        run_contestant(arguments.contestant, arguments.work, arguments.steps)
        return
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        prepare(work, arguments.pages)
        lengths = [example.num_tokens for example in load_examples(work)]
        tokens = PAGES_PER_STEP * statistics.mean(lengths)
        load = os.getloadavg()[0]
        figures = {
            name: contest(
                [sys.executable, str(Path(__file__).absolute()), "--contestant", name],
                work, arguments.steps, tokens,
            )
            for name in CONTESTANTS
        }  # fmt: skip
        if arguments.trl_python:
            command = [arguments.trl_python, str(HERE / "sft_step_trl.py")]
            figures["trl"] = contest(command, work, arguments.steps, tokens)
        figures["input"] = measure_input(work, os.cpu_count() or 1, arguments.input_pages)
    result = {
        "figures": figures,
        "pages_per_step": PAGES_PER_STEP,
        "tokens_per_page": round(statistics.mean(lengths)),
        "hardware": f"{os.cpu_count()} CPU cores ({platform.machine()}), one thread each, "
        f"load {load:.1f} before",
        "date": datetime.date.today().isoformat(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "command": "python " + " ".join(sys.argv),
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
