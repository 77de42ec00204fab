"""Benchmarks that anyone can run; each prints ratios measured in one run, the two sides in turn."""
