"""What routing each picture to its own LoRAs costs, `python -m benchmarks.routing`."""
