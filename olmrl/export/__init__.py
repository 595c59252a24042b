"""A run's weights for others: Hugging Face folders, soups, FP8 copies, and parity checks."""
