"""Engines that generate completions, the pool that feeds them, and the ledger of groups."""
