"""A page on disk becomes a trainable sample: render, prompt, steps, stream, encode, pack."""
