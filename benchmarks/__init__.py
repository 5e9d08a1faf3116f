"""Measurements of this project, each a program of its own: see docs/benchmarks.md."""
