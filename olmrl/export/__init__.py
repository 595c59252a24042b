"""A run's weights for others: Hugging Face folders, soups, FP8, and their proof of parity."""
