"""`stj annotate`: a local page to label pairs blind, by keyboard, into a file that several people can fill."""
