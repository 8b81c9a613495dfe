"""The sections of the report that need a generator, one a file."""
