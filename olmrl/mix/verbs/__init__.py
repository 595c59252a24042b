"""One module per verb; each has `HELP`, `add_arguments(parser)` and `run(args)`."""
