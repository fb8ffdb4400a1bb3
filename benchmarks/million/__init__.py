"""Millions of pictures, `python -m benchmarks.million`."""
