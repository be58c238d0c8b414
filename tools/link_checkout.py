"""Makes the virtual environment that runs it use this checkout: a path file, and the console script cc-tui.

`pip install --editable` would do the same with an import hook, since the packages have two roots; the hook costs every
start of the program 20 ms (measured), a fifth of what a headless boot spends outside the engine.
"""

from __future__ import annotations

import stat
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """\
#!{python}
from cc_tui.__main__ import main

main()
"""


def main() -> None:
    if sys.prefix == sys.base_prefix:
        sys.exit("link_checkout.py: run it with the python of a virtual environment (make setup does)")
    site = Path(sysconfig.get_paths()["purelib"])
    (site / "cc_tui_checkout.pth").write_text(f"{ROOT / 'core'}\n{ROOT}\n")
    script = Path(sysconfig.get_paths()["scripts"]) / "cc-tui"
    script.write_text(SCRIPT.format(python=sys.executable))
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


if __name__ == "__main__":
    main()
