"""One module per verb; each has `add_arguments(parser)` and `run(options)`."""
