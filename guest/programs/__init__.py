"""The guest programs, a directory each, and how they are built."""
