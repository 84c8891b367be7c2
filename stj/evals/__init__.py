"""Measures how good a judge is: benchmarks, scores with intervals, comparisons."""
