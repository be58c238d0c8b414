"""Recordings that nobody asked for by name: in the state directory, as many as fit; the oldest go first.

A session of the interface is recorded there, and a bug that a search found without --output.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from cc_tui.places import state_dir

FILES_MAX = 100
KEPT_BYTES_MAX = 1 << 30
"""Of all of them together."""
SESSION_BYTES_MAX = 256 << 20
"""One session's recording ends there; the session goes on."""
_NAME = re.compile(r"(session|failure)-.*\.ccrec")


def recordings_dir() -> Path:
    """Where they are; may not exist."""
    return Path(state_dir()) / "recordings"


def new_session_path(stamp: str) -> Path:
    """Where a session that began at `stamp` is recorded, after room was made for it. Raises OSError."""
    directory = recordings_dir()
    directory.mkdir(parents=True, exist_ok=True)
    prune(directory)
    return directory / f"session-{stamp}-{os.getpid()}.ccrec"


def prune(directory: Path, *, files_max: int = FILES_MAX, bytes_max: int = KEPT_BYTES_MAX) -> None:
    """Deletes the oldest until one more fits; only what has such a name. Raises OSError."""
    found = [path for path in directory.iterdir() if _NAME.fullmatch(path.name) and path.is_file()]
    found.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
    total = sum(path.stat().st_size for path in found)
    while found and (len(found) >= files_max or total > bytes_max):
        oldest = found.pop(0)
        total -= oldest.stat().st_size
        oldest.unlink()


__all__ = ["FILES_MAX", "KEPT_BYTES_MAX", "SESSION_BYTES_MAX", "new_session_path", "prune", "recordings_dir"]
