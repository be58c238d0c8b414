"""The files around the code agree with each other: versions, pins, targets."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import chaoscontrol
from chaoscontrol.native_library import native_version

ROOT = Path(__file__).resolve().parents[2]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(requirements: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for requirement in requirements:
        match = re.fullmatch(r"([A-Za-z0-9-]+)(?:\[.*\])?==([0-9a-z.]+)", requirement)
        assert match, f"{requirement} is not pinned"
        found[match[1].lower()] = match[2]
    return found


def locked(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / name).read_text()
    return pins(re.findall(r"^([^#\s]+)", text, flags=re.MULTILINE))


def test_there_is_one_version() -> None:
    assert project()["version"] == chaoscontrol.__version__ == native_version()


def test_the_lock_files_are_those_of_pyproject() -> None:
    """If not: make lock."""
    run, dev = locked("run.txt"), locked("dev.txt")
    assert pins(project()["dependencies"]).items() <= run.items()
    assert pins(project()["optional-dependencies"]["dev"]).items() <= dev.items()
    assert run.items() <= dev.items()


def test_every_dependency_says_why_it_is_there() -> None:
    for line in (ROOT / "pyproject.toml").read_text().splitlines():
        if re.search(r'^    "[a-z].*==', line):
            assert re.search(r'", +# \w', line), line


def test_the_commands_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    readme = (ROOT / "README.md").read_text()
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", readme, flags=re.MULTILINE))
    listed = set(re.findall(r"`([a-z-]+)`", readme[readme.index("`make help`") :])) & targets
    assert {"run", "test"} <= named <= targets
    assert {"lint", "bench", "images", "clean"} <= listed


def test_scripts_are_valid_shell() -> None:
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)
    subprocess.run(["make", "-n", "-C", str(ROOT), "help"], check=True, capture_output=True)
