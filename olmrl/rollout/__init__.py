"""Engines that turn pages into completions, the Ray workers around them, and the pool."""
