"""TRL's SFTTrainer on the pages of `sft_step.py`, in a separate environment without olmrl."""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import torch
import trl
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration, TrainerCallback

PAGES_PER_STEP, LR = 8, 1e-4


class Stopwatch(TrainerCallback):
    """CPU and wall seconds of steps, and of the time between them (loading and collation)."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.load: list[float] = []
        self.losses: list[float] = []
        self._ended = time.process_time()

    def on_step_begin(self, *_: object, **__: object) -> None:
        self.load.append(time.process_time() - self._ended)
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def on_step_end(self, *_: object, **__: object) -> None:
        self.wall.append(time.perf_counter() - self._wall)
        self.cpu.append(time.process_time() - self._cpu)
        self._ended = time.process_time()

    def on_log(
        self, _args: object, _state: object, _control: object, logs: dict, **__: object
    ) -> None:
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads((arguments.work / "rows.json").read_text())
    message = [
        {
            "role": Value("string"),
            "content": List({"type": Value("string"), "text": Value("string")}),
        }
    ]
    features = Features(
        {"images": List(ImageFeature()), "prompt": List(message[0]), "completion": List(message[0])}
    )
    data = Dataset.from_list(
        [
            {
                "images": [row["image"]],
                "prompt": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": row["prompt"]},
                            {"type": "image", "text": None},
                        ],
                    }
                ],
                "completion": [
                    {"role": "assistant", "content": [{"type": "text", "text": row["response"]}]}
                ],
            }
            for row in rows
        ],
        features=features,
    )
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        arguments.work / "model", dtype=torch.float32, attn_implementation="sdpa"
    )
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as out:
        config = trl.SFTConfig(
            output_dir=out,
            max_steps=arguments.steps + 1,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=PAGES_PER_STEP,
            learning_rate=LR,
            lr_scheduler_type="constant",
            max_length=None,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        processor = AutoProcessor.from_pretrained(arguments.work / "model")
        trainer = trl.SFTTrainer(
            model=model, args=config, train_dataset=data, processing_class=processor,
            callbacks=[watch],
        )  # fmt: skip
        before = peak_mib()
        watch._ended = time.process_time()
        trainer.train()
    result = {"wall": watch.wall[1:], "cpu": watch.cpu[1:], "load": watch.load[1:]}
    result |= {"losses": watch.losses, "peak": peak_mib(), "before": before}
    print(json.dumps(result | {"version": f"trl {trl.__version__}"}))


if __name__ == "__main__":
    main()
