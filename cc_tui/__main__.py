"""python -m cc_tui"""

from cc_tui.cli import main

main()
