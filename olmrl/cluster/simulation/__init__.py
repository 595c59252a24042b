"""Simulated step times of a plan."""
