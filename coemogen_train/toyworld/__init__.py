"""The toy world: a miniature in which the whole method runs in minutes, offline, and winning means much."""
