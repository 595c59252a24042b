"""GRPO: `python -m olmrl.grpo`; start reading at `training.run`."""
