"""Where cc-tui keeps its files (XDG base directory specification)."""

from __future__ import annotations

import json
import os

from chaoscontrol.errors import UsageError
from chaoscontrol.images import cache_dir, images_dir


def _xdg(variable: str, default: str) -> str:
    base = os.environ.get(variable, "")
    if not os.path.isabs(base):  # the specification: relative paths are ignored
        base = os.path.join(os.path.expanduser("~"), default)
    return os.path.join(base, "cc-tui")


def config_dir() -> str:
    """Settings that a person edits. May not exist."""
    return _xdg("XDG_CONFIG_HOME", ".config")


def state_dir() -> str:
    """What a session leaves for the next one. May not exist."""
    return _xdg("XDG_STATE_HOME", ".local/state")


def print_places(*, as_json: bool) -> None:
    """Prints every place, one per line, or as a JSON object."""
    places = {"config": config_dir(), "state": state_dir(), "cache": cache_dir()}
    try:
        places["images"] = images_dir()
    except UsageError:
        places["images"] = ""
    if as_json:
        print(json.dumps(places, indent=2))
        return
    for name, path in places.items():
        print(f"{name:7} {path or '(missing)'}")
