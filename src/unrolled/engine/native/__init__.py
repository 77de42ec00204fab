"""The native engine: a Program becomes plans of the C++ library, which runs them over time.

From a Program to a run: schedule, draft and plan turn instructions to numbers; compiled has a cell's plans; arrays,
rows and packs say how the library reads sequences and weights; recording, with forward, backward and outer, makes a
tape of the calls for all batches of a frame; run gives a tape memory and plays it. Ways in: eager and operation for
torch's autograd, of which autograd takes one; ready and single_step where nothing is learned.
"""
