"""One process against several, `python -m benchmarks.scale`."""
