"""Initramfs: reads and writes cpio archives in the `newc` format, the same bytes for the same content.

Owns the archive format and nothing else. Every field that is not content is fixed: time stamps, owners and inode
numbers; entries are sorted by path, which also puts each directory before what it holds. The layout is that of the
kernel's Documentation/driver-api/early-userspace/buffer-format.rst.

An uncompressed archive boots fastest: the kernel copies it, while one that it has to inflate costs instructions.
"""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Iterable
from pathlib import PurePosixPath
from stat import S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_ISLNK

from chaoscontrol.errors import UsageError

MAGIC = b"070701"
HEADER_BYTES = 110
TRAILER = "TRAILER!!!"
MTIME_S = 0
"""One time stamp for every entry: the start of the epoch."""
ALIGNMENT = 4
"""Names and data are padded to this with zeros, counted from the start of the archive."""
ARCHIVE_ALIGNMENT = 512
"""The whole archive is padded to this, as cpio(1) does."""
LINKS_MAX = 40
"""Symbolic links followed for one path, as in Linux."""
FIELD_MAX = 0xFFFF_FFFF
"""Every header field is eight hexadecimal digits."""

CONSOLE_DEVICE = (5, 1)
"""/dev/console (Documentation/admin-guide/devices.txt): what the kernel opens as PID 1's standard streams."""
MOUNT_POINTS = ("dev", "proc", "sys", "tmp")


class PackError(UsageError):
    """An archive that cannot be written or read, said in one line."""


@dataclasses.dataclass(frozen=True, order=True)
class Entry:
    """One file of the archive. `path` is relative, with forward slashes and no dot components."""

    path: str
    mode: int
    """File type and permission bits, as in st_mode."""
    data: bytes = b""
    """The content of a regular file or the target of a symbolic link."""
    device: tuple[int, int] = (0, 0)
    """Major and minor number of a device node."""


def directory(path: str, permissions: int = 0o755) -> Entry:
    return Entry(path, S_IFDIR | permissions)


def regular(path: str, data: bytes, permissions: int = 0o644) -> Entry:
    return Entry(path, S_IFREG | permissions, data)


def symlink(path: str, target: str) -> Entry:
    return Entry(path, S_IFLNK | 0o777, target.encode())


def character_device(path: str, device: tuple[int, int], permissions: int = 0o600) -> Entry:
    return Entry(path, S_IFCHR | permissions, device=device)


def write_newc(entries: Iterable[Entry]) -> bytes:
    """The archive holding `entries` and the directories above them, which need not be listed."""
    complete = _with_parents(entries)
    archive = bytearray()
    for number, entry in enumerate(complete, start=1):
        links = 2 if S_IFMT(entry.mode) == S_IFDIR else 1
        _append(archive, entry, inode=number, links=links)
    _append(archive, Entry(TRAILER, 0), inode=0, links=1)
    _pad(archive, ARCHIVE_ALIGNMENT)
    return bytes(archive)


def read_newc(archive: bytes) -> list[Entry]:
    """The entries of an archive in their order, without the trailer."""
    entries: list[Entry] = []
    at = 0
    while True:
        header = archive[at : at + HEADER_BYTES]
        if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
            raise PackError(f"no newc header at byte {at} of {len(archive)}")
        fields = [int(header[start : start + 8], 16) for start in range(len(MAGIC), HEADER_BYTES, 8)]
        mode, data_bytes, device, name_bytes = fields[1], fields[6], (fields[9], fields[10]), fields[11]
        name_at = at + HEADER_BYTES
        data_at = _aligned(name_at + name_bytes, ALIGNMENT)
        if name_bytes == 0 or data_at + data_bytes > len(archive):
            raise PackError(f"the entry at byte {at} reaches past the end, {len(archive)}")
        name = archive[name_at : name_at + name_bytes - 1].decode()
        if name == TRAILER:
            return entries
        entries.append(Entry(name, mode, archive[data_at : data_at + data_bytes], device))
        at = _aligned(data_at + data_bytes, ALIGNMENT)


def bootable(init: bytes, files: Iterable[Entry] = ()) -> bytes:
    """An archive that boots: `init` as /init, /dev/console, empty mount points, and whatever else is given."""
    fixed = [
        regular("init", init, 0o755),
        character_device("dev/console", CONSOLE_DEVICE),
        *(directory(path) for path in MOUNT_POINTS),
    ]
    return write_newc([*fixed, *files])


def through_links(entries: Iterable[Entry]) -> list[Entry]:
    """The entries at the places that their paths mean, where a directory above them is a symbolic link to another one.

    As in a merged /usr: bin/ls is usr/bin/ls if bin is a link to usr/bin. Of two at one place the one that was given
    for it stays, then the first one. Raises PackError for links that lead in circles.
    """
    given = list(entries)
    links = {entry.path: entry.data.decode(errors="surrogateescape") for entry in given if S_ISLNK(entry.mode)}
    placed: dict[str, Entry] = {}
    moved: list[Entry] = []
    for entry in given:
        path = entry.path
        for _ in range(LINKS_MAX):
            parents = [parent.as_posix() for parent in PurePosixPath(path).parents]
            link = next((parent for parent in reversed(parents) if parent in links), None)
            if link is None:
                break
            target = posixpath.normpath(posixpath.join("/", posixpath.dirname(link), links[link]))
            path = posixpath.join(target, posixpath.relpath(path, link)).lstrip("/")
        else:
            raise PackError(f"{entry.path}: its directories are links that lead in circles")
        if path == entry.path:
            placed.setdefault(path, entry)
        else:
            moved.append(dataclasses.replace(entry, path=path))
    for entry in moved:
        placed.setdefault(entry.path, entry)
    return list(placed.values())


def _with_parents(entries: Iterable[Entry]) -> list[Entry]:
    """`entries` sorted, each path once, with the directories that lead to them."""
    by_path: dict[str, Entry] = {}
    for entry in entries:
        _check_path(entry.path)
        if by_path.setdefault(entry.path, entry) != entry:
            raise PackError(f"{entry.path}: given twice, with different content")
    for path in list(by_path):
        for parent in PurePosixPath(path).parents:
            name = parent.as_posix()
            if name == ".":
                continue
            above = by_path.setdefault(name, directory(name))
            if S_IFMT(above.mode) != S_IFDIR:
                raise PackError(f"{path}: {name} is not a directory")
    # By components, not by characters: "a/b" must come before "a-b/c" only if "a" does, and after its own parent.
    return sorted(by_path.values(), key=lambda entry: PurePosixPath(entry.path).parts)


def _check_path(path: str) -> None:
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or pure.as_posix() != path or ".." in pure.parts or path in (".", TRAILER):
        raise PackError(f"{path!r}: not a plain relative path")


def _append(archive: bytearray, entry: Entry, *, inode: int, links: int) -> None:
    name = entry.path.encode() + b"\0"
    # c_ino c_mode c_uid c_gid c_nlink c_mtime c_filesize c_devmajor c_devminor c_rdevmajor c_rdevminor c_namesize
    # c_check
    major, minor = entry.device
    fields = (inode, entry.mode, 0, 0, links, MTIME_S, len(entry.data), 0, 0, major, minor, len(name), 0)
    if max(fields) > FIELD_MAX:
        raise PackError(f"{entry.path}: too large for the newc format")
    header = MAGIC + b"".join(b"%08x" % field for field in fields)
    assert len(header) == HEADER_BYTES
    assert len(archive) % ALIGNMENT == 0
    archive += header + name
    _pad(archive, ALIGNMENT)
    archive += entry.data
    _pad(archive, ALIGNMENT)


def _aligned(at: int, alignment: int) -> int:
    return -(-at // alignment) * alignment


def _pad(archive: bytearray, alignment: int) -> None:
    archive.extend(bytes(_aligned(len(archive), alignment) - len(archive)))
