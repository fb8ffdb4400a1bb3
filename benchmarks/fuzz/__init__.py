"""Hostile input, `python -m benchmarks.fuzz`."""
