"""Gather: the files that programs need to run, from this machine or from below another root directory.

Owns which interpreter and shared libraries a program names, and where a dynamic linker would find them (ld.so(8)): the
paths in the program, those of /etc/ld.so.conf, the directories that every linker knows. Nothing is executed. What a
program opens by itself while it runs (plug-ins, data, configuration) no file says: that is asked for by name.
"""

from __future__ import annotations

import dataclasses
import os
import posixpath
import stat
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from chaoscontrol.errors import UsageError
from chaoscontrol.initramfs import LINKS_MAX, Entry, directory, regular, symlink

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

KNOWN_DIRECTORIES = (
    *("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"),
    *("/lib64", "/usr/lib64", "/lib", "/usr/lib"),
)
"""Where linkers of the usual distributions look without being told, Debian's first."""
MUSL_DIRECTORIES = ("/usr/local/lib",)
"""Where musl's looks besides."""
PROGRAM_DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Where a program is looked for that is given by its name."""
LINKER_CACHE = "/etc/ld.so.cache"
INCLUDES_MAX = 8
_ELF = b"\x7fELF"
_DAMAGED = (ELFError, ValueError, KeyError, IndexError, OverflowError, UnicodeDecodeError, AttributeError, TypeError)
"""What pyelftools raises of a damaged file."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Needs:
    """What an ELF file asks of the linker."""

    is_64: bool
    interpreter: str | None
    names: tuple[str, ...]
    """Libraries: names, or paths if there is a slash in them."""
    rpath: tuple[str, ...]
    """Handed down to what the libraries need; unused where there is a runpath."""
    runpath: tuple[str, ...]


class _Found(NamedTuple):
    """A path of the root and where it leads."""

    path: str
    """Without symbolic links, from the root: /usr/lib/libc.so.6."""
    host: str


class Gathering:
    """Entries of an archive, with all that the programs among them need.

    `root`: the directory that is / to the files; `present`: paths (as usr/bin/x) that the archive has already and that
    nothing replaces unless it is asked for by name.
    """

    def __init__(self, root: str | os.PathLike[str] = "/", *, present: Collection[str] = ()) -> None:
        self._root = os.path.abspath(root).removesuffix("/")
        if not os.path.isdir(self._root or "/"):
            raise UsageError("is no directory", where=self._root, hint="give the root of a file system")
        self._present = present
        self._entries: dict[str, Entry] = {}
        self._examined: set[str] = set()
        self._lacking: dict[str, str] = {}
        """Libraries that were not found: who needs them."""
        self._useless: list[str] = []
        """Why files of trees cannot be run."""
        self._configured = tuple(_configured(self, "/etc/ld.so.conf", INCLUDES_MAX))

    @property
    def entries(self) -> list[Entry]:
        """All that was gathered, by path."""
        return [self._entries[path] for path in sorted(self._entries)]

    @property
    def unmet(self) -> list[str]:
        """What files of trees name that was not found, a sentence each: plug-ins often need what loads them."""
        names = {posixpath.basename(path) for path in (*self._entries, *self._present)}
        lacking = sorted((who, name) for name, who in self._lacking.items() if posixpath.basename(name) not in names)
        return [*(f"{who} needs {name}, which was not found" for who, name in lacking), *self._useless]

    # ---- what is asked for ------------------------------------------------------------------------------------------

    def add_program(self, name: str) -> None:
        """A program or script, at its own path, with all it needs; a bare name is looked for where programs are.

        Raises UsageError.
        """
        if "/" in name:
            path = posixpath.normpath(posixpath.join("/", name))
        else:
            paths = [f"{where}/{name}" for where in PROGRAM_DIRECTORIES]
            path = next((path for path in paths if self.find(path) is not None), "")
            if not path:
                where = ", ".join(PROGRAM_DIRECTORIES)
                raise UsageError(
                    f"there is no program {name!r} in {where}", where=self._root or "/", hint="give its path"
                )
        self._place(path, replace=True)

    def add_file(self, guest: str, host: str) -> None:
        """A file of the host, wherever it is, at another path, with all it needs. Raises UsageError."""
        data, mode = _read(host)
        self._put(regular(_inside(guest), data, mode), replace=True)
        self._need(data, _inside(guest), host)

    def add_tree(self, guest: str, host: str) -> None:
        """Everything below a directory of the host, below another path, with all that programs in it need.

        Links stay links; sockets, pipes and device nodes are left out. What is not found of what they need is no error:
        see `unmet`. Raises UsageError.
        """
        if not os.path.isdir(host):
            raise UsageError("is no directory", where=host, hint="give GUEST=DIRECTORY")
        top = "" if guest.strip("/") == "" else _inside(guest)
        programs: list[tuple[bytes, str, str]] = []
        for where, names, files in os.walk(host, onerror=_refuse):
            names.sort()
            below = posixpath.join(top, os.path.relpath(where, host)).removesuffix("/.").removeprefix("./")
            if below not in ("", "."):
                self._put(directory(below), replace=True)
            for name in sorted([*names, *files]):
                path, at = os.path.join(where, name), posixpath.normpath(posixpath.join(below, name))
                mode = os.lstat(path).st_mode
                if stat.S_ISLNK(mode):
                    self._put(symlink(at, os.readlink(path)), replace=True)
                elif stat.S_ISREG(mode):
                    data, permissions = _read(path)
                    self._put(regular(at, data, permissions), replace=True)
                    programs.append((data, at, path))
        for data, at, path in programs:
            try:
                self._need(data, at, path, is_asked_for=False)
            except UsageError as error:
                self._useless.append(f"{at}: {error.what}")

    # ---- the root ---------------------------------------------------------------------------------------------------

    def find(self, path: str) -> _Found | None:
        """Where a path of the root leads, if there is a file; links are followed as they would be inside it."""
        todo, done, links = path.strip("/").split("/"), "", 0
        while todo:
            part = todo.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                done = posixpath.dirname(done)
                continue
            host = f"{self._root}{done}/{part}"
            if os.path.islink(host):
                links += 1
                if links > LINKS_MAX:
                    return None
                target = os.readlink(host)
                done = "" if target.startswith("/") else done
                todo = [*target.strip("/").split("/"), *todo]
            else:
                done = f"{done}/{part}"
        host = f"{self._root}{done}"
        return _Found(done, host) if os.path.isfile(host) else None

    # ---- placing ----------------------------------------------------------------------------------------------------

    def _put(self, entry: Entry, *, replace: bool) -> None:
        known = entry.path in self._present and not replace
        if not known and (replace or entry.path not in self._entries):
            self._entries[entry.path] = entry

    def _place(self, path: str, *, replace: bool = False, for_whom: str = "", inherited: tuple[str, ...] = ()) -> None:
        """The file at a path of the root: under that name, and under its own if a link led to it."""
        found = self.find(path)
        if found is None:
            needed = f", which {for_whom} needs" if for_whom else ""
            raise UsageError(f"there is no file {path}{needed}", where=self._root or "/", hint="install what has it")
        asked, own = _inside(path), found.path.lstrip("/")
        if asked != own:
            self._put(symlink(asked, f"/{own}"), replace=replace)
        data, mode = _read(found.host)
        self._put(regular(own, data, mode), replace=replace)
        self._need(data, own, found.host, inherited)

    def _need(
        self, data: bytes, path: str, host: str, inherited: tuple[str, ...] = (), *, is_asked_for: bool = True
    ) -> None:
        """Whatever a file needs, if it is a program or a library that was not looked at yet."""
        if path in self._examined:
            return
        self._examined.add(path)
        if data.startswith(b"#!"):
            words = data[2:256].split(b"\n", 1)[0].split()
            interpreter = os.fsdecode(words[0]) if words else ""
            if interpreter.startswith("/") and _inside(interpreter) not in self._present:
                self._need_interpreter(interpreter, path)
            if posixpath.basename(interpreter) == "env" and len(words) > 1 and not words[1].startswith(b"-"):
                self._need_named(os.fsdecode(words[1]), path)
        elif data.startswith(_ELF):
            self._need_libraries(data, path, host, inherited, is_asked_for)

    def _need_interpreter(self, path: str, for_whom: str) -> None:
        """What a script's first line names; where the root has none, what the archive has of that name in /bin."""
        instead = f"bin/{posixpath.basename(path)}"
        if self.find(path) is None and instead in self._present:
            self._put(symlink(_inside(path), f"/{instead}"), replace=False)
        else:
            self._place(path, for_whom=for_whom)

    def _need_named(self, name: str, for_whom: str) -> None:
        """A program that a script has `env` look for."""
        if any(f"{where.lstrip('/')}/{name}" in self._present for where in PROGRAM_DIRECTORIES):
            return
        for where in PROGRAM_DIRECTORIES:
            if self.find(f"{where}/{name}") is not None:
                self._place(f"{where}/{name}", for_whom=for_whom)
                return
        raise UsageError(f"there is no program {name!r}, which {for_whom} needs", where=self._root or "/")

    def _need_libraries(
        self, data: bytes, path: str, host: str, inherited: tuple[str, ...], is_asked_for: bool
    ) -> None:
        needs = _needs_of(data, host)
        if needs is None:
            return
        if not needs.is_64:
            raise UsageError("is a 32-bit program", where=host, hint="the machines run 64-bit code only")
        if needs.interpreter is not None:
            self._place(needs.interpreter, for_whom=path)
        origin = posixpath.dirname(f"/{path}")
        rpath = () if needs.runpath else (*(_expanded(entry, origin) for entry in needs.rpath), *inherited)
        runpath = tuple(_expanded(entry, origin) for entry in needs.runpath)
        for name in needs.names:
            where = self._find_library(name, (*rpath, *runpath))
            if where is None and not is_asked_for:
                self._lacking.setdefault(name, path)
                continue
            if where is None:
                raise UsageError(
                    f"library {name}, which {path} needs, is in none of the linker's directories",
                    where=self._root or "/",
                    hint="install it, or give the one that is to be used with --file",
                )
            if where.lstrip("/") in self._entries:
                continue
            self._place(where, for_whom=path, inherited=rpath)
            is_configured = posixpath.dirname(where) not in (*rpath, *runpath, *KNOWN_DIRECTORIES)
            if is_configured and self.find(LINKER_CACHE) is not None:
                self._place(LINKER_CACHE)  # how the linker in the guest knows that directory

    def _find_library(self, name: str, first: tuple[str, ...]) -> str | None:
        """The path of the root where the linker finds it; 32-bit ones are passed over."""
        if "/" in name:
            return name if self.find(name) is not None else None
        for where in (*first, *self._configured, *KNOWN_DIRECTORIES, *MUSL_DIRECTORIES):
            path = f"{where.rstrip('/')}/{name}"
            if path.lstrip("/") in self._entries:
                return path
            found = self.find(path)
            if found is not None and _is_64_bit_elf(found.host):
                return path
        return None


def _configured(gathering: Gathering, path: str, includes: int) -> Iterator[str]:
    """The directories of a file in the format of ld.so.conf."""
    found = gathering.find(path)
    if found is None:
        return
    text = Path(found.host).read_text("utf-8", errors="replace")
    for line in (line.partition("#")[0].strip() for line in text.splitlines()):
        words = line.split()
        if words[:1] == ["include"]:
            for pattern in words[1:] if includes else ():
                where, names = posixpath.split(posixpath.join(posixpath.dirname(path), pattern))
                for name in _matches(found.host.removesuffix(found.path) + where, names):
                    yield from _configured(gathering, f"{where}/{name}", includes - 1)
        elif line.startswith("/"):
            yield line


def _matches(where: str, pattern: str) -> list[str]:
    return sorted(name for name in os.listdir(where) if fnmatch(name, pattern)) if os.path.isdir(where) else []


def _inside(path: str) -> str:
    """A guest's path as an archive has it. Raises UsageError."""
    inside = posixpath.normpath(path.strip()).lstrip("/")
    if inside in ("", ".") or inside.startswith(".."):
        raise UsageError(f"{path!r} is no path of a file in the guest", hint="write it as /srv/data.bin")
    return inside


def _refuse(error: OSError) -> None:
    raise UsageError(f"cannot be read: {error.strerror}", where=str(error.filename)) from error


def _read(host: str) -> tuple[bytes, int]:
    """Contents and permissions of a file of the host. Raises UsageError."""
    try:
        with Path(host).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise UsageError("is no regular file", where=host, hint="give a file, or a directory with --tree")
            return file.read(), 0o755 if mode & 0o111 else 0o644
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=host) from error


def _is_64_bit_elf(host: str) -> bool:
    try:
        with Path(host).open("rb") as file:
            return file.read(5) == _ELF + b"\x02"
    except OSError:
        return False


def _needs_of(data: bytes, host: str) -> _Needs | None:
    """None: it is linked statically, or is no program: an object file, a core."""
    interpreter: str | None = None
    names: list[str] = []
    rpath: list[str] = []
    runpath: list[str] = []
    try:
        elf: Any = ELFFile(BytesIO(data))
        if elf["e_type"] not in ("ET_EXEC", "ET_DYN"):
            return None
        for segment in elf.iter_segments():
            kind = segment["p_type"]
            if kind == "PT_INTERP":
                interpreter = segment.get_interp_name()
            elif kind == "PT_DYNAMIC":
                for tag in segment.iter_tags():
                    what = tag.entry.d_tag
                    names += [tag.needed] if what == "DT_NEEDED" else []
                    rpath += tag.rpath.split(":") if what == "DT_RPATH" else []
                    runpath += tag.runpath.split(":") if what == "DT_RUNPATH" else []
        is_64 = elf.elfclass == 64
    except _DAMAGED as error:
        raise UsageError(f"is a damaged ELF file ({error})", where=host) from error
    return _Needs(is_64, interpreter, tuple(names), tuple(filter(None, rpath)), tuple(filter(None, runpath)))


def _expanded(entry: str, origin: str) -> str:
    for token, value in (("ORIGIN", origin), ("LIB", "lib/x86_64-linux-gnu"), ("PLATFORM", "x86_64")):
        entry = entry.replace(f"${{{token}}}", value).replace(f"${token}", value)
    return posixpath.normpath(entry)


__all__ = ["Gathering"]
