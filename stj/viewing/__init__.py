"""`stj view`: a local page to look at rows, the judges' answers beside them, and where the judges are wrong."""
