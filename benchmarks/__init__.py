"""Measurements of this project, side by side with others: see docs/benchmarks.md."""
