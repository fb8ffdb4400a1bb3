"""A training step against its floor and against what others do, `python -m benchmarks.step`."""
