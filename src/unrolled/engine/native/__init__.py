"""The native engine: a Program becomes plans of the C++ library, which runs them over time.

From a Program to a run: schedule and plan (instructions as numbers), compiled (the plans of a cell), packs and rows
(weights and sequences as the library reads them), run (forward and backward), autograd (as operations of torch).
"""
