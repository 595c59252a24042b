"""What `benchmarks/soak.py` is made of: long runs, samples of what they use, and slopes."""
