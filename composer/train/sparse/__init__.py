"""Sparse updates: which entries of a model's matrices may move, and what they came to be."""
