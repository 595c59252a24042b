"""Held-out pages: transcribed, scored, and their figures."""
