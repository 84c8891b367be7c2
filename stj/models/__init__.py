"""What a model is without running it: where it lies, its chat format, its shapes."""
