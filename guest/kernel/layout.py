"""Make the table that says where the members of the guest kernel's structures are.

    python3 -m guest.kernel.layout [--work DIR] [--jobs N]

The committed kernel has no type information. This builds the same kernel with the compiler's full debug information,
which changes no code: the stripped result has to be the committed image, but for the build IDs, which are hashes over
the debug information too; else nothing is written. Then it reads the structures that the debugger wants
(chaoscontrol.symbols.layout.MEMBERS) from the DWARF of a few object files, and writes
core/chaoscontrol/symbols/vmlinux-6.1.layout.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from chaoscontrol.images import image_path
from chaoscontrol.loader import read_source
from chaoscontrol.symbols.layout import MEMBERS
from guest.kernel.build import TREE, link_vmlinux
from guest.toolchain import BuildError, run

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "vmlinux-6.1"
OUT = ROOT / "core" / "chaoscontrol" / "symbols" / f"{IMAGE}.layout.json"
OBJECTS = ("fs/proc/task_mmu.o", "fs/namespace.o", "mm/mmap.o", "lib/maple_tree.o")
"""Between them they see every structure of MEMBERS, and reading them takes seconds; all of vmlinux takes an hour."""

BUILD_ID = re.compile(rb"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0.{20}", re.DOTALL)
"""The note with a build ID (NT_GNU_BUILD_ID): of the kernel, and of the vDSO in it."""

_AGGREGATES = ("DW_TAG_structure_type", "DW_TAG_union_type")
_QUALIFIERS = ("DW_TAG_typedef", "DW_TAG_const_type", "DW_TAG_volatile_type")


def layouts_of_object(path: Path, wanted: dict[str, tuple[str, ...]]) -> dict[str, dict[str, int]]:
    """For each structure that an object file defines: its size as "", and the offsets of the wanted members."""
    found: dict[str, dict[str, int]] = {}
    with path.open("rb") as file:
        for unit in ELFFile(file).get_dwarf_info().iter_CUs():
            for die in unit.get_top_DIE().iter_children():
                name = _name(die)
                if die.tag in _AGGREGATES and name in wanted and "DW_AT_byte_size" in die.attributes:
                    members: dict[str, int] = {}
                    _members(die, 0, "", members, wanted[name])
                    found[name] = {"": die.attributes["DW_AT_byte_size"].value, **members}
    return found


def _name(die: Any) -> str:
    attribute = die.attributes.get("DW_AT_name")
    return "" if attribute is None else attribute.value.decode()


def _members(die: Any, base: int, prefix: str, out: dict[str, int], wanted: tuple[str, ...]) -> None:
    for member in die.iter_children():
        if member.tag != "DW_TAG_member":
            continue
        path = prefix + _name(member)
        place = member.attributes.get("DW_AT_data_member_location")
        offset = base + (0 if place is None else place.value)
        if path in wanted:
            out[path] = offset
        inner = member.get_DIE_from_attribute("DW_AT_type")
        while inner.tag in _QUALIFIERS:
            inner = inner.get_DIE_from_attribute("DW_AT_type")
        if inner.tag in _AGGREGATES:
            if not _name(member):
                _members(inner, offset, prefix, out, wanted)
            elif any(name.startswith(f"{path}.") for name in wanted):
                _members(inner, offset, f"{path}.", out, wanted)


def table(vmlinux: Path, tree: Path) -> dict[str, Any]:
    """What is written. Raises BuildError if this is another kernel than the committed one, or lacks a member."""
    with tempfile.TemporaryDirectory() as work:
        stripped = Path(work) / "vmlinux"
        run(["objcopy", "--strip-all", str(vmlinux), str(stripped)])
        built = stripped.read_bytes()
    _, committed = read_source(image_path(IMAGE), "kernel")
    if BUILD_ID.sub(b"", built) != BUILD_ID.sub(b"", bytes(committed)):
        raise BuildError(f"what was built is another kernel than the committed {IMAGE}")
    structs: dict[str, dict[str, int]] = {}
    for name in OBJECTS:
        structs.update(layouts_of_object(tree / name, MEMBERS))
    missing = [f"{s}.{m}" for s, members in MEMBERS.items() for m in members if m not in structs.get(s, {})]
    if missing:
        raise BuildError(f"the kernel has no {', '.join(missing)}")
    return {
        "about": "offsets of structure members in bytes, sizes under the empty name; made by guest/kernel/layout.py",
        "vmlinux_sha256": [hashlib.sha256(committed).hexdigest()],
        "structs": {name: structs[name] for name in sorted(structs)},
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m guest.kernel.layout", description="Make the kernel's layout table."
    )
    parser.add_argument("--work", type=Path, help="build there, or use what was built there")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="guest-kernel-") as temporary:
            work: Path = options.work or Path(temporary)
            vmlinux = work / TREE / "vmlinux"
            if not vmlinux.exists():
                vmlinux = link_vmlinux(work, options.jobs, debug="-g")
            OUT.write_text(json.dumps(table(vmlinux, work / TREE), indent=1, sort_keys=True) + "\n")
    except (BuildError, OSError) as error:
        print(f"guest.kernel.layout: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
