"""Unit tests that follow from the truth of a page."""
