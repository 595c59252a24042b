"""TRL's GRPOTrainer on the pages of `grpo_step.py`, in a separate environment.

Its packages come first; olmrl and what its rewards import are appended, so both score the same.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trl
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


class Stopwatch(TrainerCallback):
    """Wall and CPU seconds of whole steps, and of wrapped calls within them."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.parts: dict[str, float] = {}
        self.logged: list[dict[str, float]] = []

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            result = function(*args, **kwargs)
            self.parts[name] = self.parts.get(name, 0.0) + time.perf_counter() - wall
            self.parts[f"{name}_cpu"] = (
                self.parts.get(f"{name}_cpu", 0.0) + time.process_time() - cpu
            )
            return result

        return timed

    def on_step_begin(self, *_: object, **__: object) -> None:
        self.parts = {}
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def on_step_end(self, *_: object, **__: object) -> None:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        self.steps.append({**self.parts, "step": wall, "step_cpu": cpu})

    def on_log(
        self, _args: object, _state: object, _control: object, logs: dict, **__: object
    ) -> None:
        if "grad_norm" in logs:
            self.logged.append(dict(logs))


def make_data(rows: list[dict[str, Any]]) -> Dataset:
    part = {"type": Value("string"), "text": Value("string")}
    features = Features(
        {
            "images": List(ImageFeature()),
            "prompt": List({"role": Value("string"), "content": List(part)}),
            "page": Value("int64"),
        }
    )
    content = [{"type": "text", "text": rows[0]["prompt"]}, {"type": "image", "text": None}]
    prompt = [{"role": "user", "content": content}]
    return Dataset.from_list(
        [{"images": [r["image"]], "prompt": prompt, "page": k} for k, r in enumerate(rows)],
        features=features,
    )


def make_reward(work: Path, settings: dict[str, Any], tokenizer: Any) -> Callable[..., list[float]]:
    """olmrl's weighted rewards as one reward function for TRL."""
    sys.path += settings["path"]
    from olmrl.config.schema import RewardConfig
    from olmrl.data.page import load_page, scan_bench
    from olmrl.rewards.registry import build_all
    from olmrl.rewards.scoring import score_rollouts
    from olmrl.types import Completion

    rewards = build_all(RewardConfig(**entry) for entry in settings["rewards"])
    sources = scan_bench(str(work / "pages" / "train"))
    pages = [load_page(source, settings["longest_side"]).page for source in sources]

    def score(completion_ids: list[list[int]], page: list[int], **_: object) -> list[float]:
        totals = []
        for number, (ids, which) in enumerate(zip(completion_ids, page, strict=True)):
            ended = ids[-1] == tokenizer.eos_token_id
            completion = Completion(
                group_id=str(which),
                index=number,
                token_ids=np.asarray(ids, np.int32),
                logprobs=np.zeros(len(ids), np.float32),
                versions=(),
                finish_reason="stop" if ended else "length",
                text=tokenizer.decode(ids, skip_special_tokens=True),
                prompt_token_ids=np.zeros(0, np.int32),
            )
            totals.append(score_rollouts(rewards, pages[which], [completion])[0].total)
        return totals

    return score


def save_batch(path: Path, pages: list[int], output: dict[str, torch.Tensor]) -> None:
    """Save the first generation batch, so that olmrl's learner can train on the same tokens."""
    kept = [row.bool() for row in output["completion_mask"]]
    prompts = [row.bool() for row in output["prompt_mask"]]
    batch = {
        "pages": pages,
        "prompts": [
            ids[mask].tolist() for ids, mask in zip(output["prompt_ids"], prompts, strict=True)
        ],
        "completions": [
            ids[mask].tolist() for ids, mask in zip(output["completion_ids"], kept, strict=True)
        ],
        "advantages": output["advantages"].tolist(),
    }
    path.write_text(json.dumps(batch), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = arguments.work
    settings = json.loads((work / "settings.json").read_text("utf-8"))
    processor = AutoProcessor.from_pretrained(work / "model")
    watch = Stopwatch()
    asked: list[list[int]] = []
    score = make_reward(work, settings, processor.tokenizer)

    def reward(completion_ids: list[list[int]], page: list[int], **kwargs: Any) -> list[float]:
        asked.append(list(page))
        return watch.wrap("rewards", score)(completion_ids, page)

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        work / "model", dtype=torch.float32, attn_implementation="sdpa"
    )
    with tempfile.TemporaryDirectory() as out:
        config = GRPOConfig(
            output_dir=out,
            max_steps=arguments.steps + 1,
            per_device_train_batch_size=settings["group"],
            gradient_accumulation_steps=settings["pages"],
            num_generations=settings["group"],
            max_completion_length=settings["max_tokens"],
            temperature=1.0,
            generation_kwargs={"suppress_tokens": settings["banned"]},
            loss_type="dapo",
            beta=0.0,
            learning_rate=settings["lr"],
            lr_scheduler_type="constant",
            shuffle_dataset=False,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=reward,
            args=config,
            train_dataset=make_data(json.loads((work / "rows.json").read_text("utf-8"))),
            processing_class=processor,
            callbacks=[watch],
        )
        prepare = trainer._generate_and_score_completions

        def saving(inputs: Any) -> Any:
            output = prepare(inputs)
            if len(asked) == 1:
                save_batch(work / f"batch-{arguments.threads}.json", asked[0], output)
            return output

        trainer._generate = watch.wrap("generate", trainer._generate)
        trainer._generate_and_score_completions = watch.wrap("rollout", saving)
        trainer.train()
    result = {
        "steps": watch.steps[1:],
        "first_grad_norm": watch.logged[0]["grad_norm"],
        "length": float(np.mean([row["completions/mean_length"] for row in watch.logged[1:]])),
        "version": f"trl {trl.__version__}",
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
