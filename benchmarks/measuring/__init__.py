"""What benchmarks share: rounds, the machine, answers, models, steps and processes."""
