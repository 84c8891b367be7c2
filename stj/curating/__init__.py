"""Diversity of instructions: embeddings, clusters with names, near-duplicates by meaning, samples, and a map.

Everything here is a function of vectors and of the seed. Nothing knows phases, artifacts or engines.
"""
