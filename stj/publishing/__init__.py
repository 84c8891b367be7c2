"""Publishing: a judge, or the pairs that a run judged, as a repository that others can load."""
