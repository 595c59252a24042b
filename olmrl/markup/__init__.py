"""What a transcription says: its front matter, text, tables and equations.

This room parses and compares; bench tests and rewards are built on it, and it knows neither.
"""
