"""A model without running it: where it lies, its chat format, its shape."""
