"""The quick start: `python -m olmrl.quickstart`."""
