"""One run on Ray: its directory, console and sinks, how it is stopped, and what its processes share."""
