"""What prints the figures of docs/performance.md: `python -m benchmarks`, or one module at a time."""
