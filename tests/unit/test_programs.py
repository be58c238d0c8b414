"""chaoscontrol.symbols.programs and .cpio: the files that the host has of a guest, and whose symbols are whose."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaoscontrol import image_path, initramfs
from chaoscontrol.images import kernel_symbols_path
from chaoscontrol.loader import read_source
from chaoscontrol.symbols.cpio import read_files
from chaoscontrol.symbols.elf import ElfImage
from chaoscontrol.symbols.programs import GuestFiles, binary_of, is_same_program

FILES = {"/init": b"\x7fELF and so on", "/etc/name": b"guest", "/lib/empty": b""}


def archive() -> bytes:
    entries = [initramfs.regular(path[1:], data) for path, data in FILES.items() if path != "/init"]
    return initramfs.bootable(FILES["/init"], [*entries, initramfs.symlink("lib64", "lib")])


def plain(data: bytes) -> bytes:
    return data


@pytest.mark.parametrize("compress", [plain, gzip.compress, bz2.compress, lzma.compress])
def test_files_of_an_initramfs(compress: Callable[[bytes], bytes]) -> None:
    assert dict(read_files(compress(archive()))) == FILES


def test_archives_one_behind_another() -> None:
    more = initramfs.write_newc([initramfs.regular("later", b"1")])
    assert dict(read_files(archive() + bytes(64) + more)) == {**FILES, "/later": b"1"}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1 << 12), st.integers(0, 255)), max_size=20), st.integers(0, 1 << 12))
def test_damaged_archives_end(changes: list[tuple[int, int]], length: int) -> None:
    data = bytearray(archive())
    for at, value in changes:
        data[at % len(data)] = value
    for path, content in read_files(bytes(data[:length])):
        assert path.startswith("/")
        assert len(content) <= length


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_damaged_compression_is_no_file(compress: Callable[[bytes], bytes]) -> None:
    data = bytearray(compress(archive()))
    data[len(data) // 2] ^= 0xFF
    assert set(dict(read_files(bytes(data)))) <= set(FILES)
    assert list(read_files(bytes(data[:8]))) == []


def compile_program(directory: Path, name: str, source: str, *flags: str) -> Path:
    (directory / f"{name}.c").write_text(source)
    command = ["gcc", "-g", "-nostdlib", "-static", "-e", "main", *flags, "-o", name, f"{name}.c"]
    subprocess.run(command, cwd=directory, check=True)
    return directory / name


def halves(program: Path) -> tuple[Path, Path]:
    """The program without its symbols, and those."""
    stripped, symbols = program.with_suffix(".stripped"), program.with_suffix(".only")
    subprocess.run(["objcopy", "--strip-all", program, stripped], check=True)
    subprocess.run(["objcopy", "--only-keep-debug", program, symbols], check=True)
    return stripped, symbols


@pytest.mark.parametrize("flag", ["-Wl,--build-id", "-Wl,--build-id=none"])
def test_symbols_are_found_for_the_program_that_they_are_of(tmp_path: Path, flag: str) -> None:
    one = compile_program(tmp_path, "one", "int value = 3; int main(void) { return value; }", flag)
    other = compile_program(tmp_path, "other", "int main(void) { return 4; } int more(void) { return 5; }", flag)
    (stripped, symbols), (others, _) = halves(one), halves(other)
    assert is_same_program(ElfImage(stripped), ElfImage(symbols))
    assert not is_same_program(ElfImage(others), ElfImage(symbols))
    image = tmp_path / "guest.cpio"
    image.write_bytes(initramfs.bootable(stripped.read_bytes(), [initramfs.regular("other", others.read_bytes())]))
    (tmp_path / "guest.sym").write_bytes(symbols.read_bytes())
    files = GuestFiles(None, image)
    assert files.paths() == ["/init", "/other"]
    init, second = files.program("/init"), files.program("/other")
    assert init is not None and second is not None
    assert init.symbols.address("main") == ElfImage(one).symbols.address("main")
    assert len(init.call_frames) >= 1
    main = init.symbols.address("main")
    assert main is not None
    source = init.lines.find(main)
    assert source is not None and source.file.endswith("one.c")
    assert second.symbols.address("more") is None
    files.add_symbols(other)
    second = files.program("/other")
    assert second is not None
    assert second.symbols.address("more") == ElfImage(other).symbols.address("more")
    assert files.program("/none") is None
    assert files.notes == []


def test_a_file_is_parsed_once(tmp_path: Path) -> None:
    program = compile_program(tmp_path, "one", "int main(void) { return 0; }")
    assert binary_of(ElfImage(program)) is binary_of(ElfImage(program.read_bytes()))


def test_what_cannot_be_read_is_noted(tmp_path: Path) -> None:
    (tmp_path / "bad.cpio").write_bytes(initramfs.bootable(b"\x7fELF" + bytes(100)))
    files = GuestFiles(str(tmp_path / "no-kernel"), str(tmp_path / "bad.cpio"))
    assert files.kernel is None
    assert files.layout is None
    assert files.program("/init") is None
    assert len(files.notes) == 3
    assert GuestFiles(None, str(tmp_path / "none.cpio")).paths() == []


def test_the_included_images_have_their_symbols() -> None:
    kernel = image_path("vmlinux")
    assert kernel_symbols_path(kernel) == image_path("vmlinux-6.1.sym")
    assert kernel_symbols_path("/boot/vmlinux") == "/boot/vmlinux"
    files = GuestFiles(kernel, image_path("raft"))
    assert files.kernel is not None
    assert files.kernel.symbols.address("vfs_read")
    raft = files.program("/raft")
    assert raft is not None
    assert raft.symbols.address("raft_pump")
    assert raft.lines.statements("raft_core.c", 200)
    _, archive_bytes = read_source(image_path("raft"), "initramfs")
    assert {path for path, _ in read_files(bytes(archive_bytes))} >= {"/init", "/raft", "/sbin/cc-agent", "/etc/cc-run"}
