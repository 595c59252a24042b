"""One run on Ray: its directory, console and sinks, its stop, what its processes share."""
