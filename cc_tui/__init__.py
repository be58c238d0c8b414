"""cc-tui: the command line, the commands and the terminal interface of chaoscontrol.

cc_tui/tui is the only part that imports textual; everything else works without a terminal.
"""
