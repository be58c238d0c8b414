"""The guest kernel: configuration, patches and how it is built."""
