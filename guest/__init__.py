"""The guest side: kernel, programs and the images made of them. Nothing of the engine is imported here."""
