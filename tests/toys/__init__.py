"""Small stand-ins for the engine: fast enough for thousands of random histories, and exact like it."""
