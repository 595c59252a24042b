"""A run's weights, ready to serve: Hugging Face folders, soups, 8-bit copies, parity checks."""
