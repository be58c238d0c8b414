"""Settings: the configuration file that a person may write, `config.toml` in the directory that `locate` prints.

theme = "light"          # or "dark"
speed = "10"             # of `run`: virtual seconds per second, or "max"
step = "250us"           # what `s` and `S` move by

[keys]
"time.step" = "s,f10"    # ids as the help shows them
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from cc_tui.commands.bench import STEP_NS
from cc_tui.commands.language import CommandError, parse_duration, parse_speed
from cc_tui.places import config_dir
from chaoscontrol.errors import UsageError
from chaoscontrol.texts import read_toml

THEMES = ("dark", "light")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the file says, or would say by default."""

    theme: str = "dark"
    speed: float | None = 1.0
    step_ns: int = STEP_NS
    running: bool = True
    """Does time pass from the beginning?"""
    keys: Mapping[str, object] = field(default_factory=dict[str, object])
    where: str = "config.toml"
    """The file, for messages about its keys."""


def load_settings(path: Path | None = None, *, quantum_ns: int = 100_000) -> Settings:
    """Read the file; without one, the defaults. Raises UsageError naming the file and the entry."""
    path = Path(config_dir()) / "config.toml" if path is None else path
    where = str(path)
    try:
        table = read_toml(path.read_bytes())
    except FileNotFoundError:
        return Settings(where=where)
    except OSError as error:
        raise UsageError(error.strerror or str(error), where=where) from None
    except ValueError as error:
        raise UsageError(str(error), where=where) from None
    return _read(table, where, quantum_ns)


def _read(table: dict[str, Any], where: str, quantum_ns: int) -> Settings:
    unknown = sorted(set(table) - {"theme", "speed", "step", "start", "keys"})
    if unknown:
        hint = "there are theme, speed, step, start and [keys]"
        raise UsageError(f"unknown setting {unknown[0]!r}", where=where, hint=hint)
    theme = table.get("theme", "dark")
    if theme not in THEMES:
        raise UsageError(f"theme {theme!r}", where=where, hint="it is dark or light")
    try:
        speed = parse_speed(str(table.get("speed", "1")))
        step_ns = parse_duration(str(table["step"]), quantum_ns) if "step" in table else STEP_NS
    except CommandError as error:
        raise UsageError(error.what, where=where, hint=error.hint) from None
    if step_ns <= 0:
        raise UsageError("a step of no time", where=where, hint='write step = "1ms"')
    start = table.get("start", "running")
    if start not in ("running", "paused"):
        raise UsageError(f"start {start!r}", where=where, hint="it is running or paused")
    keys = table.get("keys", {})
    if not isinstance(keys, dict):
        raise UsageError("keys is not a table", where=where, hint='write [keys], then lines like "time.step" = "f6"')
    return Settings(theme, speed, step_ns, start == "running", cast(dict[str, object], keys), where)
