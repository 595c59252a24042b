"""What a transcription says: its front matter, text, tables and equations.

This room parses and compares; it knows nothing of bench tests or rewards, which are built on it.
"""
