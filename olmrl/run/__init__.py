"""One run on Ray: its directory, console and sinks, its stop, and what its processes share."""
