"""Measurements of this project, each as a program of its own: see docs/benchmarks.md."""
