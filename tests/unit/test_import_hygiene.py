"""Who depends on whom, seen from a running process: sys.modules after an import or a command.

The import contracts in pyproject.toml read the source; this sees what lazy imports really pull in.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

UI = {"textual", "rich", "pyte"}
HEAVY = UI | {"elftools", "asyncio", "unittest", "cffi", "pycparser", "concurrent.futures", "hashlib", "ssl", "socket"}
NOT_FOR_A_BOOT = {"click", "dataclasses", "enum", "inspect", "json", "re", "typing", "zstandard"}


def modules_after(program: str, **environment: str) -> set[str]:
    code = f"import sys\n{program}\nsys.stderr.write('\\n' + ' '.join(sys.modules))"
    env = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=env)
    return set(done.stderr.splitlines()[-1].split())


def test_the_library_has_no_user_interface() -> None:
    loaded = modules_after(
        "import chaoscontrol\n"
        "for name in chaoscontrol.__all__: getattr(chaoscontrol, name)\n"
        "import chaoscontrol.timetravel"
    )
    assert not (UI | {"click", "cc_tui"}) & loaded


def test_naming_the_library_costs_nothing() -> None:
    loaded = modules_after("import chaoscontrol")
    assert not {"chaoscontrol.machine", "chaoscontrol.loader", "chaoscontrol.cluster", "dataclasses"} & loaded


def test_the_command_line_imports_no_widgets() -> None:
    loaded = modules_after("import cc_tui.cli")
    assert not HEAVY & loaded
    assert "cc_tui.tui" not in loaded


def test_a_headless_boot_imports_little(tmp_path: Path) -> None:
    """Its CPU time is measured as a whole process. The first one inflates the images and keeps them."""
    program = (
        "from cc_tui.__main__ import main\n"
        "sys.argv = ['cc-tui', 'boot', 'vmlinux', 'hello', '--max-instructions', '1000']\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code"
    )
    assert "zstandard" in modules_after(program, XDG_CACHE_HOME=str(tmp_path))
    loaded = modules_after(program, XDG_CACHE_HOME=str(tmp_path))
    assert "chaoscontrol.machine" in loaded
    assert not (HEAVY | NOT_FOR_A_BOOT) & loaded
    assert not {"chaoscontrol.cluster", "chaoscontrol.timetravel", "cc_tui.tui", "cc_tui.demo"} & loaded


@pytest.mark.parametrize("name", ["commands", "session"])
def test_commands_know_no_widgets(name: str) -> None:
    pytest.importorskip(f"cc_tui.{name}")
    assert not {"textual", "cc_tui.tui"} & modules_after(f"import cc_tui.{name}")
