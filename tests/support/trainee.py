"""Something to save and restore."""

import random

import numpy as np
import torch


class Trainee:
    """A linear model with AdamW: the least that has weights, moments and a schedule."""

    def __init__(self, seed: int = 0, width: int = 4) -> None:
        torch.manual_seed(seed)
        self.model = torch.nn.Linear(width, 3)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.model(torch.ones(1, width)).sum().backward()
        self.optimizer.step()

    def train(self) -> float:
        self.optimizer.zero_grad()
        x = torch.rand(8, self.model.in_features) + random.random() + np.random.rand()
        loss = self.model(x).square().mean()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def state(self) -> dict:
        return {
            "model": self.model.state_dict(),
            "optim": self.optimizer.state_dict(),
            "schedule": {"last_epoch": 3, "betas": (0.9, 0.99), "steps": {7: None}},
        }

    def load(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optim"])
