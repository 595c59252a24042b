"""Held-out pages: transcription, scores and figures."""
