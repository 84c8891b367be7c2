"""One run: the phases of the self-taught loop, what each one makes, and the report."""
