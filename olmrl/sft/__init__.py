"""Supervised fine-tuning: `python -m olmrl.sft`; start reading at `training.run`."""
