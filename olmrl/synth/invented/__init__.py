"""Invented pages of a few words: drawn, transcribed well or badly, and turned into unit tests."""
