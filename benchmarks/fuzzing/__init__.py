"""Mutated files and texts against everything in olmrl that reads what others wrote."""
