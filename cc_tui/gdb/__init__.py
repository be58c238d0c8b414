"""gdb's remote serial protocol: a server for gdb, and for every debugger that speaks it."""
