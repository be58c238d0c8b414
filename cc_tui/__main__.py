"""The program: `cc-tui`, or python -m cc_tui."""

from __future__ import annotations

import sys

from cc_tui import diagnostics
from cc_tui.interrupts import keep_interrupts


def _main() -> None:
    from cc_tui import plain

    parameters = plain.read_boot(sys.argv[1:])
    if parameters is None:
        from cc_tui import cli

        cli.run_command_line(sys.argv[1:])
        return
    from cc_tui.boot import boot

    code = boot(**parameters)
    if code:
        raise diagnostics.ExitError(code)


def main() -> None:
    """The console script."""
    keep_interrupts()
    sys.exit(diagnostics.run(_main))


if __name__ == "__main__":
    main()
