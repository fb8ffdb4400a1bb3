"""Peak memory of a training step, `python -m benchmarks.memory`."""
