"""TRL's side of `trl_losses.py`: `GRPOTrainer._compute_loss` on given log-probs, without olmrl."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
import trl
from trl.trainer.grpo_trainer import GRPOTrainer

CLIP_LOW, CLIP_HIGH, MAX_TOKENS = 0.15, 0.3, 64


def trainer_of(loss: str, level: str, beta: float, new: torch.Tensor) -> SimpleNamespace:
    """What `_compute_loss` reads from a trainer; the model returns the given log-probs."""
    entropies = torch.zeros_like(new)
    accelerator = SimpleNamespace(
        num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, sync_gradients=True
    )
    return SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (new, entropies, None),
        _metrics={"train": defaultdict(list)},
        _entropy_bonus_enabled=False,
        accelerator=accelerator,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        aux_loss_enabled=False,
        beta=beta,
        current_gradient_accumulation_steps=1,
        epsilon_low=CLIP_LOW,
        # for cispo TRL takes the cap itself, otherwise its distance from 1
        epsilon_high=1.0 + CLIP_HIGH if loss == "cispo" else CLIP_HIGH,
        importance_sampling_level=level,
        loss_type=loss,
        max_completion_length=MAX_TOKENS,
        model=SimpleNamespace(training=True),
        off_policy_mask_threshold=None,
        top_entropy_quantile=1.0,
        use_vllm=False,
    )


def padded(rows: list[list[float]], length: int) -> torch.Tensor:
    """[B, length] in float64, padded with zeros."""
    return torch.tensor([row + [0.0] * (length - len(row)) for row in rows], dtype=torch.float64)


def answer(case: dict, variant: dict) -> dict:
    """The loss and its gradient for every token of every sequence, including masked ones."""
    lengths = [len(row) for row in case["new"]]
    length = max(lengths)
    new, old, reference = (padded(case[name], length) for name in ("new", "old", "reference"))
    new.requires_grad_()
    rows = [[keep] * n for keep, n in zip(case["kept"], lengths, strict=True)]
    mask = padded(rows, length)
    blank = torch.zeros_like(mask, dtype=torch.long)
    inputs = {
        "prompt_ids": blank[:, :1],
        "prompt_mask": blank[:, :1],
        "completion_ids": blank,
        "completion_mask": mask,
        "advantages": torch.tensor(case["advantage"], dtype=torch.float64),
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
        "num_items_in_batch": mask.sum(),
    }
    trainer = trainer_of(variant["loss"], variant["level"], variant["kl_beta"], new)
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    loss.backward()
    gradient = [row[:n] for row, n in zip(new.grad.tolist(), lengths, strict=True)]
    return {"loss": loss.item(), "gradient": gradient}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", type=Path)
    questions = json.loads(parser.parse_args().questions.read_text("utf-8"))
    answers = [
        [answer(case, variant) for variant in questions["variants"]] for case in questions["cases"]
    ]
    print(json.dumps({"version": trl.__version__, "answers": answers}))


if __name__ == "__main__":
    main()
