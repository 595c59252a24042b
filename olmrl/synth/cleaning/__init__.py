"""What no data set should have: personal data, near copies, pages of benchmarks."""
