"""What the nodes cost, `python -m benchmarks.inference`."""
