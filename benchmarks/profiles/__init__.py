"""Where the time of a step goes, `python -m benchmarks.profiles`."""
