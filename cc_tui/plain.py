"""Reads the plain form of `cc-tui boot ...` without click.

A headless boot is what scripts start by the thousand, and importing click costs as much CPU time as booting the guest.
So words that need no thought are read here, and everything else (help, mistakes, an option's value that looks like an
option) is left to cli.py, which knows all of them. Both give the same parameters; a test compares them.
"""

from __future__ import annotations

from cc_tui.options import parse_count, parse_seed, parse_size, parse_time_ns
from chaoscontrol.config import VCPU_KINDS
from chaoscontrol.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


def _vcpu(text: str) -> str:
    if text not in VCPU_KINDS:
        raise UsageError(f"there is no vCPU kind {text!r}")
    return text


_OPTIONS: dict[str, Callable[[str], Any]] = {
    "--cmdline": str,
    "--append": str,
    "--memory": parse_size,
    "--seed": parse_seed,
    "--quantum": parse_time_ns,
    "--vcpu": _vcpu,
    "--until": str,
    "--max-vtime": parse_time_ns,
    "--max-instructions": parse_count,
}
"""Options with a value: their function gives it, or raises UsageError."""


def read_boot(words: Sequence[str]) -> dict[str, Any] | None:
    """The parameters of cc_tui.boot.boot() that are given, or None where click has to look."""
    if words[:1] != ["boot"]:
        return None
    parameters: dict[str, Any] = {}
    files: list[str] = []
    rest = iter(words[1:])
    for word in rest:
        name, has_value, value = word.partition("=")
        if not word.startswith("-"):
            files.append(word)
        elif word == "--json":
            parameters["as_json"] = True
        elif name in _OPTIONS:
            value = value if has_value else next(rest, "-")
            if value.startswith("-"):
                return None
            try:
                parameters[name[2:].replace("-", "_")] = _OPTIONS[name](value)
            except UsageError:
                return None
        else:
            return None
    if not 1 <= len(files) <= 2:
        return None
    return {**dict(zip(("kernel", "initrd"), files, strict=False)), **parameters}
