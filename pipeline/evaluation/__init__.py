"""Predictions against the truth: accuracy, confusion, calibration, and what a score threshold would keep."""
