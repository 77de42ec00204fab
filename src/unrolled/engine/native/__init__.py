"""The native engine: a Program becomes plans of the C++ library, which runs them over time.

From a Program to a run: schedule, draft and plan turn instructions to numbers; compiled has a cell's plans; arrays,
rows and packs say how the library reads sequences and weights; recording makes a tape of the calls of certain shapes;
run gives a tape memory and plays it; eager and operation are two ways into torch's autograd, and autograd takes one.
"""
