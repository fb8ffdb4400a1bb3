"""What survives a night: kills at random moments and other disasters, `python -m benchmarks.chaos`."""
