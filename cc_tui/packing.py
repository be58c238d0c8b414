"""What `pack` does: an initramfs of programs of this machine, to be run in a guest."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile

from cc_tui.diagnostics import note
from chaoscontrol.config import MIB, format_bytes
from chaoscontrol.errors import UsageError
from chaoscontrol.gather import Gathering
from chaoscontrol.images import image_path
from chaoscontrol.initramfs import Entry, bootable, read_newc, regular, through_links, write_newc
from chaoscontrol.loader import read_source

BASE = "tools"
"""The image that programs are added to: init, a shell and its tools, the guest agent, cc-sdk."""
START = "etc/cc-start"
ZSTD_LEVEL = 9
UNMET_SHOWN = 10
KERNEL_BYTES = 32 * MIB
"""What a machine needs besides its archive and the files unpacked from it: both are in its memory for a moment."""


@dataclasses.dataclass(frozen=True, slots=True)
class PackOptions:
    """What was asked for."""

    out: str
    programs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    """As GUEST=HOST."""
    trees: tuple[str, ...] = ()
    root: str = "/"
    run: str | None = None
    """A line for the guest's shell."""
    init: str | None = None
    """The program that is everything: process 1, without the base image."""


def pack(options: PackOptions) -> None:
    """Write the archive, and say what is in it. Raises UsageError."""
    if options.init is not None and options.run is not None:
        raise UsageError("--run needs the init that --init replaces", hint="leave one of them out")
    base = [] if options.init is not None else _base()
    gathering = Gathering(options.root, present={entry.path for entry in base})
    for pair in options.trees:
        gathering.add_tree(*_pair("--tree", pair))
    for pair in options.files:
        gathering.add_file(*_pair("--file", pair))
    if options.init is not None:
        gathering.add_file("/init", options.init)
    for name in options.programs:
        gathering.add_program(name)
    added = {entry.path: entry for entry in gathering.entries}
    if base and "init" in added and not any(_pair("--file", pair)[0].strip("/") == "init" for pair in options.files):
        del added["init"]
        note(f"{options.out}: /init is that of {BASE}, not the tree's: it starts --run and the agent")
    if options.run is not None:
        added[START] = regular(START, f"#!/bin/sh\n{options.run}\n".encode(), 0o755)
        added["etc/cc-run"] = regular("etc/cc-run", f"/{START}\n".encode())
    # What a tree has of a directory's name counts, be it a link: a container's /bin may be one to /usr/bin.
    entries = through_links([*added.values(), *(entry for entry in base if entry.path not in added)])
    archive = write_newc(entries) if options.init is None else _alone(entries)
    _write(options.out, archive)
    needs = -(-(2 * len(archive) + KERNEL_BYTES) // (16 * MIB)) * 16
    besides = f" besides {BASE}" if base else ""
    note(f"{options.out}: {len(added)} files{besides}, {format_bytes(len(archive))} unpacked")
    unmet = gathering.unmet
    for text in unmet[:UNMET_SHOWN]:
        note(f"{options.out}: {text}")
    if len(unmet) > UNMET_SHOWN:
        note(f"{options.out}: and {len(unmet) - UNMET_SHOWN} more like that")
    note(f"a machine needs {needs} MiB for it, and what the programs use: --memory, or memory_mib in a scenario")


def _base() -> list[Entry]:
    return read_newc(bytes(read_source(image_path(BASE), BASE)[1]))


def _alone(entries: list[Entry]) -> bytes:
    (init,) = (entry for entry in entries if entry.path == "init")
    return bootable(init.data, [entry for entry in entries if entry is not init])


def _pair(option: str, pair: str) -> tuple[str, str]:
    guest, separator, host = pair.partition("=")
    if not (separator and guest and host):
        raise UsageError(f"{option} {pair!r} is no pair", hint="write GUEST=HOST, as /srv/data.bin=./data.bin")
    return guest, host


def _write(out: str, archive: bytes) -> None:
    """All of it or nothing: who has the old file goes on with that."""
    if out.endswith(".zst"):
        import zstandard

        archive = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(archive)
    where = os.path.dirname(os.path.abspath(out))
    made = None
    try:
        with tempfile.NamedTemporaryFile(dir=where, prefix=".cc-tui-pack-", delete=False) as file:
            made = file.name
            file.write(archive)
        os.chmod(made, 0o644)
        os.replace(made, out)
        made = None
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", where=out) from error
    finally:
        if made is not None:
            with contextlib.suppress(OSError):
                os.unlink(made)


__all__ = ["PackOptions", "pack"]
