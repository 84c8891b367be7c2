"""A pass: one stream of rows through one set of weights, on Ray Data. Here rows meet engines."""
