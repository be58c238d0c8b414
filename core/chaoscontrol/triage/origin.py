"""What a history is made from, as facts for a report."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from chaoscontrol.triage.report import ImageFacts, Recipe, RecordingFile

if TYPE_CHECKING:
    from chaoscontrol.recording import Header


def recipe_of(header: Header) -> Recipe:
    """The recipe of a recording's header."""
    config = header.config
    return Recipe(
        engine=header.engine,
        made_by=header.heading,
        scenario=header.judge.scenario,
        vcpu=header.vcpu,
        seed=config.seed,
        machines=config.num_vms,
        memory_bytes=config.vm_config.memory_bytes,
        quantum_ns=config.quantum_ns,
        images=tuple(ImageFacts(i.role, i.name, i.sha256.hex(), i.size) for i in header.images),
        schedule=header.schedule.to_toml() if header.schedule.faults else "",
    )


def recording_file(path: str) -> RecordingFile:
    """What a file is recognised by. Raises OSError."""
    sha256 = hashlib.sha256()
    with open(path, "rb") as source:  # noqa: PTH123  read in pieces: it may be large
        while piece := source.read(1 << 20):
            sha256.update(piece)
        size = source.tell()
    return RecordingFile(Path(path).name, size, sha256.hexdigest())


__all__ = ["recipe_of", "recording_file"]
