"""Passes: one stream of rows through one set of weights each, on Ray Data. Here rows meet engines."""
