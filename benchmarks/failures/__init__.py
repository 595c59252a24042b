"""What `benchmarks/chaos.py` is made of: tiny runs, ways of failing, and what must hold."""
