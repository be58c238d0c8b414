"""chaoscontrol.loader: what it refuses, in which words, and what it puts where."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import os
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lz4.block
import pytest
import zstandard
from elf_images import Elf, bzimage, cpio
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaoscontrol import loader
from chaoscontrol.config import GIB, MIB
from chaoscontrol.errors import UsageError
from chaoscontrol.images import image_path

MEMORY = 64 * MIB


def plan(kernel: bytes | str | Path, initrd: bytes | None = None, cmdline: str = "quiet", memory: int = MEMORY):
    return loader.plan_boot(loader.read_boot_files(kernel, initrd), cmdline, memory, b"seed")


# ---- refusals: each names the thing, says what is wrong and what to try, in one line ----


@pytest.mark.parametrize(
    ("kernel", "says"),
    [
        (bzimage()[:600], "kernel: is a truncated bzImage; build or fetch it again"),
        (bzimage(), "kernel: is a truncated bzImage"),
        (bzimage(gzip.compress(Elf().build()), more=1), "is a truncated bzImage"),
        (bzimage(gzip.compress(Elf().build()), version=0x0207), "is the bzImage of a kernel before 2.6.26"),
        (bzimage(gzip.compress(Elf().build())[:-30] + bytes(30)), "is a damaged bzImage"),
        (
            bzimage(b"\x89LZO..."),
            "is a bzImage compressed with LZO, which is not read here; give the vmlinux of the same build",
        ),
        (bzimage(b"\x02\x21\x4c\x18\x05\0\0\0\xf0\xff\0\0\0"), "is a damaged bzImage"),
        (bzimage(b"something"), "is a bzImage compressed in an unknown way, which is not read here"),
        (
            bzimage(gzip.compress(b"hello")),
            "is not an ELF file; give a vmlinux, plain or zstd-compressed, or a bzImage",
        ),
        (b"\x7fELF\x02\x01\x01", "is truncated: its headers speak of 64 bytes, the file has 7"),
        (Elf().build()[:-100], "is truncated"),
        (Elf().build()[:100], "is truncated"),
        (Elf(elf_class=1).build(), "is a 32-bit ELF file; give an x86-64 vmlinux"),
        (Elf(data=2).build(), "is a big-endian ELF file"),
        (Elf(machine=183).build(), "is for another processor (ELF machine 183)"),
        (Elf(elf_type=3).build(), "is a program or a shared library, not a kernel"),
        (Elf(elf_type=1).build(), "is an object file or a kernel module, not a kernel"),
        (Elf(virtual_base=0).build(), "is a user program, not a kernel"),
        (Elf(segments=[]).build(), "has no program headers"),
        (Elf(segments=[(0x1000000, b"", 0)]).build(), "has nothing to load"),
        (Elf(segments=[(0x1000000, b"abcd", 2)]).build(), "more bytes in the file than in memory"),
        (Elf(segments=[(2**63, b"abcd", 2**62)]).build(), "which no memory reaches"),
        (Elf(entry=0x999).build(), "its entry point 0x999 is not at a physical address that it loads"),
        (b"hello", "is not an ELF file; give a vmlinux, plain or zstd-compressed, or a bzImage"),
        (b"", "is not an ELF file"),
        (zstandard.compress(Elf().build())[:-9], "is a damaged zstd file"),
        (zstandard.compress(bzimage()), "is a truncated bzImage"),
    ],
)
def test_what_is_no_kernel_is_refused(kernel: bytes, says: str) -> None:
    with pytest.raises(UsageError) as e:
        loader.parse_kernel(kernel)
    assert says in str(e.value)
    assert "\n" not in str(e.value)


def lz4_legacy(data: bytes) -> bytes:
    """As `lz4 -l`, in blocks that are smaller than the usual ones."""
    blocks = [lz4.block.compress(data[at : at + 500], store_size=False) for at in range(0, len(data), 500)]
    return b"\x02\x21\x4c\x18" + b"".join(len(block).to_bytes(4, "little") + block for block in blocks)


@pytest.mark.parametrize("sectors", [0, 4, 30])
@pytest.mark.parametrize(
    "compress",
    [
        gzip.compress,
        bz2.compress,
        lzma.compress,
        zstandard.compress,
        lz4_legacy,
        partial(lzma.compress, format=lzma.FORMAT_ALONE),
    ],
)
def test_the_kernel_of_a_bzimage(compress: Callable[[bytes], bytes], sectors: int) -> None:
    elf = Elf().build()
    size = len(elf).to_bytes(4, "little")  # what Linux's build appends
    for payload in (compress(elf), compress(elf) + size):
        image = bzimage(payload, sectors=sectors)
        assert loader.parse_kernel(image) == loader.parse_kernel(elf)
        assert loader.parse_kernel(zstandard.compress(image)) == loader.parse_kernel(elf)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none: cannot be opened: no such file or directory; check the path"):
        loader.parse_kernel(tmp_path / "none")
    with pytest.raises(UsageError, match=r"is a directory; give a file"):
        loader.parse_kernel(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="is not a regular file"):
        loader.parse_kernel(tmp_path / "fifo")
    (tmp_path / "empty").touch()
    with pytest.raises(UsageError, match="is empty"):
        loader.parse_kernel(tmp_path / "empty")


def test_a_compressed_file_may_not_claim_more_than_a_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "FILE_BYTES_MAX", 1000)
    with pytest.raises(UsageError, match="would decompress to 2 KiB"):
        loader.parse_kernel(zstandard.compress(bytes(2048)))
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(2048))
    with pytest.raises(UsageError, match="decompresses to more than"):
        loader.parse_kernel(frame)


@pytest.mark.parametrize(
    ("cmdline", "says"),
    [("x" * 2048, "has 2048 characters, the kernel reads 2047"), ("a\nb", "printable"), ("ü", "printable")],
)
def test_command_lines_the_kernel_could_not_read_are_refused(cmdline: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        plan(Elf().build(), cmdline=cmdline)
    assert plan(Elf().build(), cmdline="x" * 2047)


def test_an_initramfs_must_look_like_one_and_fit() -> None:
    with pytest.raises(UsageError, match="is an ELF file, so not an initramfs"):
        plan(Elf().build(), Elf().build())
    with pytest.raises(UsageError, match="neither a cpio archive nor a compressed one"):
        plan(Elf().build(), b"tar file")
    room = MEMORY - 0x1203000
    assert plan(Elf().build(), cpio(room)).initrd_gpa == 0x1203000
    with pytest.raises(UsageError, match=f"the initramfs of {room + 1} bytes does not fit: 64 MiB of memory"):
        plan(Elf().build(), cpio(room + 1))
    with pytest.raises(UsageError, match="does not fit"):
        plan(Elf().build(), cpio(MEMORY * 2))


def test_memory_must_hold_the_kernel() -> None:
    with pytest.raises(UsageError, match="the kernel needs memory up to 18 MiB, the machine has 4 MiB"):
        plan(Elf().build(), memory=4 * MIB)
    with pytest.raises(UsageError, match="below 1 MiB, where the boot tables are"):
        plan(Elf(segments=[(0x8000, b"abcd", 4)], entry=0x8000).build())


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6), st.integers(0, 250))
def test_damage_is_never_anything_but_a_usage_error(changes: list[tuple[int, int]], cut: int) -> None:
    image = bytearray(Elf().build())
    for offset, value in changes:
        image[offset] = value
    try:
        result = plan(bytes(image[: len(image) - cut]))
    except UsageError as e:
        assert "\n" not in str(e)
    else:
        assert all(gpa >= 0 and gpa + len(data) <= MEMORY for gpa, data in result.pieces)


# ---- what goes where ----


def test_segments_initramfs_and_tables_are_placed() -> None:
    archive = cpio(5000)
    result = plan(Elf().build(), archive, "console=ttyS0")
    pieces = {gpa: bytes(data) for gpa, data in result.pieces}
    assert pieces[0x1000000] == b"\xf4" * 64
    assert pieces[0x1200000] == b"data"
    assert result.initrd_gpa == MEMORY - 8192
    assert pieces[result.initrd_gpa] == archive
    assert pieces[0x20000] == b"console=ttyS0\0"
    assert pieces[0x21000] == struct.pack("<QII", 0, 9, 4) + b"seed"
    assert (result.entry, result.rsi, result.rsp, result.tables_gpa) == (0x1000000, 0x7000, 0x8FF0, 0x9000)


def test_nothing_overlaps() -> None:
    result = plan(Elf().build(), cpio(5000))
    spans = sorted((gpa, gpa + len(data)) for gpa, data in result.pieces)
    spans += [(0x500, 0x530), (result.tables_gpa, result.tables_gpa + 0x6000), (0xE0000, 0x100000)]
    spans.sort()
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_zero_page_is_that_of_the_boot_protocol() -> None:
    """Offsets from Documentation/arch/x86/boot.rst and zero-page.rst."""
    page = loader.boot_params(0x20000, 0x3FFE000, 5000, MEMORY)
    assert len(page) == 4096

    def field(offset: int, layout: str) -> int:
        return struct.unpack_from("<" + layout, page, offset)[0]

    assert field(0x1FE, "H") == 0xAA55
    assert page[0x202:0x206] == b"HdrS"
    assert field(0x206, "H") == 0x020F
    assert field(0x210, "B") == 0xFF
    assert field(0x211, "B") & 1
    assert (field(0x218, "I"), field(0x21C, "I")) == (0x3FFE000, 5000)
    assert field(0x228, "I") == 0x20000
    assert field(0x250, "Q") == 0x21000


def test_the_coverage_bitmap_and_hypercall_page_are_never_the_kernels() -> None:
    page = loader.boot_params(0x20000, 0, 0, 3 * GIB)
    table = [struct.unpack_from("<QQI", page, 0x2D0 + 20 * i) for i in range(page[0x1E8])]
    assert table == [
        (0, 0x9FC00, 1),
        (0xE0000, 0x20000, 2),
        (0x100000, 3 * GIB - 0x100000, 1),
    ]


def test_program_headers_are_read_as_pyelftools_reads_them() -> None:
    path = image_path("vmlinux")
    kernel = loader.parse_kernel(path)
    elf = ELFFile(io.BytesIO(zstandard.decompress(Path(path).read_bytes())))
    expected = [
        loader.Segment(s["p_offset"], s["p_filesz"], s["p_paddr"], s["p_memsz"], s["p_vaddr"])
        for s in elf.iter_segments("PT_LOAD")
    ]
    assert list(kernel.segments) == expected
    assert kernel.entry == elf["e_entry"]


def test_a_compressed_file_a_plain_file_and_bytes_are_the_same(tmp_path: Path) -> None:
    image = Elf().build()
    plain, packed = tmp_path / "vmlinux", tmp_path / "vmlinux.zst"
    plain.write_bytes(image)
    packed.write_bytes(zstandard.compress(image))
    plans = [plan(source) for source in (image, plain, packed)]
    pieces = [[(gpa, bytes(data)) for gpa, data in p.pieces] for p in plans]
    assert pieces[0] == pieces[1] == pieces[2]
