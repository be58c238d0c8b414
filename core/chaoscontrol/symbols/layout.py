"""Where the members of a Linux kernel's structures are: from its .BTF, or from a table made for a known image.

Tables lie beside this module as NAME.layout.json and name the SHA-256 of the vmlinux they are for;
guest/kernel/layout.py makes them. What is read of a kernel is listed in MEMBERS; missing() says what a
kernel lacks.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from chaoscontrol.errors import UsageError

from .btf import Btf

if TYPE_CHECKING:
    from .elf import ElfImage

MEMBERS: dict[str, tuple[str, ...]] = {
    "task_struct": (
        *("__state", "exit_state", "flags", "stack", "tasks", "mm", "pid", "tgid", "real_parent", "group_leader"),
        *("thread_node", "comm", "signal", "thread.sp"),
    ),
    "signal_struct": ("thread_head",),
    "mm_struct": (
        *("pgd", "mm_mt", "map_count", "start_brk", "brk", "start_stack", "arg_start", "arg_end", "exe_file"),
    ),
    "maple_tree": ("ma_root",),
    "maple_node": ("mr64.pivot", "mr64.slot", "ma64.pivot", "ma64.slot"),
    "vm_area_struct": ("vm_start", "vm_end", "vm_flags", "vm_pgoff", "vm_file", "vm_ops", "vm_private_data"),
    "vm_special_mapping": ("name",),
    "file": ("f_path.mnt", "f_path.dentry", "f_inode"),
    "dentry": ("d_parent", "d_name.name", "d_hash.pprev"),
    "vfsmount": ("mnt_root",),
    "mount": ("mnt_parent", "mnt_mountpoint", "mnt"),
    "inode": ("i_ino", "i_sb"),
    "super_block": ("s_dev",),
}
"""Structures of Linux 6.1 and what is read of them."""


class Layout:
    """Offsets in bytes, by structure and member."""

    def __init__(self, structs: dict[str, dict[str, int]], origin: str) -> None:
        self.origin = origin
        """Where it is from, for people."""
        self._structs = structs

    def __call__(self, struct: str, member: str) -> int:
        """The offset of a member. Raises UsageError if this kernel has none."""
        try:
            return self._structs[struct][member]
        except KeyError:
            raise UsageError(f"the kernel has no {struct}.{member}", hint="its processes cannot be read") from None

    def size(self, struct: str) -> int:
        return self(struct, "")

    def missing(self) -> list[str]:
        """What of MEMBERS this kernel does not have."""
        return [
            f"{struct}.{member}"
            for struct, members in MEMBERS.items()
            for member in members
            if member not in self._structs.get(struct, {})
        ]


def layout_of(kernel: ElfImage) -> Layout:
    """The layout for a kernel, given its vmlinux. Raises UsageError where none is known."""
    section = kernel.section(".BTF")
    if section is not None:
        return Layout(Btf(section).layouts(MEMBERS), ".BTF")
    digest = hashlib.sha256(kernel.data).hexdigest()
    for path in sorted(Path(__file__).parent.glob("*.layout.json")):
        table = json.loads(path.read_text())
        if digest in table["vmlinux_sha256"]:
            return Layout(table["structs"], path.name)
    raise UsageError(
        "the layout of its structures is not known",
        where=kernel.name,
        hint="build it with CONFIG_DEBUG_INFO_BTF=y, or use the kernel that comes with cc-tui",
    )
