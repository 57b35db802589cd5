"""hublabel against other software that labels photos with the same SavedModel: `python -m benchmarks.peers`."""
