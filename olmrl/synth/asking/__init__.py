"""Questions to a vision model, each paid for once."""
