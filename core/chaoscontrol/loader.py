"""What has to be in memory for a Linux kernel to start at its 64-bit entry point.

Owns the guest's boot layout and the checks of the files that a person gives: plan_boot() returns a value that says
which bytes go where, and knows nothing of the native library. Every refusal is a UsageError naming the file and the
next thing to try.

Layouts: ELF-64 object file format; Linux Documentation/arch/x86/boot.rst ("64-bit boot protocol") and zero-page.rst.
The program headers are read here, by struct: pyelftools takes longer to import than the rest of this library together
(60 of 130 ms), and a boot needs two dozen fields. It serves where names are wanted: symbols/elf.py.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct

from .config import GIB, KIB, format_bytes
from .errors import UsageError
from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ZERO_PAGE_GPA = 0x7000
STACK_GPA = 0x8FF0
TABLES_GPA = 0x9000
CMDLINE_GPA = 0x20000
SETUP_DATA_GPA = 0x21000
LOW_RAM_END = 0x9FC00
COVERAGE_GPA = 0xE0000
"""The coverage bitmap (64 KiB) and the hypercall page (0xFE000) lie from here to 1 MiB: reserved to the guest kernel,
so that it never uses them, and yet in RAM."""
HIGH_RAM_GPA = 0x100000

CMDLINE_BYTES_MAX = 2047
"""COMMAND_LINE_SIZE of x86 (arch/x86/include/asm/setup.h) without the terminating zero."""

FILE_BYTES_MAX = 3 * GIB
KERNEL_VADDR_MIN = 0xFFFF_8000_0000_0000

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ELF_MAGIC = b"\x7fELF"
_BZIMAGE_MAGIC, _BZIMAGE_MAGIC_AT = b"HdrS", slice(0x202, 0x206)
_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_ET_EXEC = 2
_EM_X86_64 = 62
_PT_LOAD = 1
_SETUP_RNG_SEED = 9
_PAGE = 4 * KIB

_CPIO_MAGICS = (b"070701", b"070702")
_INITRAMFS_MAGICS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\x5d\x00\x00": "lzma",
    b"\xfd7zXZ\x00": "xz",
    b"\x89LZO": "lzo",
    b"\x02\x21\x4c\x18": "lz4",
}
"""What a Linux initramfs may begin with if it is compressed (lib/decompress.c, init/initramfs.c)."""
_LOOKED_INTO_BYTES = 1 << 20
"""Enough for the first block of any compressor."""

Source = str | os.PathLike[str] | bytes
Buffer = bytes | memoryview


class Segment(Record):
    """One PT_LOAD program header of a kernel: file_bytes at file_offset go to gpa, then zeros up to memory_bytes."""

    file_offset: int
    file_bytes: int
    gpa: int
    memory_bytes: int
    vaddr: int


class Kernel(Record):
    """A checked ELF vmlinux."""

    name: str
    """What to call it in messages."""
    entry: int
    """Physical address of startup_64."""
    segments: tuple[Segment, ...]
    image: Buffer

    @property
    def end_gpa(self) -> int:
        """First physical address after the kernel's memory, its BSS included."""
        return max(s.gpa + s.memory_bytes for s in self.segments)


class BootFiles(Record):
    """The files of a boot, read and checked; many machines can start from them."""

    kernel: Kernel
    initrd_name: str = ""
    initrd: Buffer | None = None


class BootPlan(Record):
    """Which bytes go where, and the state at the entry point. Memory not named is zero."""

    pieces: tuple[tuple[int, Buffer], ...]
    entry: int
    rsi: int
    rsp: int
    tables_gpa: int
    initrd_gpa: int
    """0 without an initramfs."""


# ---- files ----


def _read_file(path: str) -> Buffer:
    """The file's bytes, mapped, not copied. Raises UsageError for what is not a readable file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        hint = "check the path" if isinstance(e, FileNotFoundError) else ""
        raise UsageError(f"cannot be opened: {(e.strerror or str(e)).lower()}", where=path, hint=hint) from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise UsageError(f"is {kind}", where=path, hint="give a file")
        if status.st_size == 0:
            raise UsageError("is empty", where=path, hint="build or fetch it again")
        return memoryview(mmap.mmap(fd, status.st_size, access=mmap.ACCESS_READ))
    except OSError as e:
        raise UsageError(f"cannot be read: {e.strerror or e}", where=path) from None
    finally:
        os.close(fd)


def _decompress(data: Buffer, name: str) -> Buffer:
    """Undoes zstd compression, or takes the kernel out of a bzImage; image_cache keeps what was inflated once."""
    is_boot_image = data[_BZIMAGE_MAGIC_AT] == _BZIMAGE_MAGIC
    if data[:4] != _ZSTD_MAGIC and not is_boot_image:
        return data
    from .image_cache import Entry

    entry = Entry(data)
    inflated = entry.load()
    if inflated is None:
        inflated = _unpack(data, name) if is_boot_image else _inflate(data, name)
        entry.store(inflated)
    return inflated if is_boot_image or inflated[_BZIMAGE_MAGIC_AT] != _BZIMAGE_MAGIC else _decompress(inflated, name)


def _unpack(data: Buffer, name: str) -> Buffer:
    from .bzimage import unpack_bzimage

    return unpack_bzimage(data, name, FILE_BYTES_MAX)


def _inflate(data: Buffer, name: str) -> Buffer:
    import zstandard

    try:
        size = zstandard.frame_content_size(data)
        if size > FILE_BYTES_MAX:
            raise UsageError(f"would decompress to {format_bytes(size)}", where=name, hint="give a smaller file")
        if size >= 0:
            return zstandard.ZstdDecompressor().decompress(data)
        # The frame does not say how much it holds: stop at what no machine could use.
        out = zstandard.ZstdDecompressor().stream_reader(data).read(FILE_BYTES_MAX + 1)
        if len(out) > FILE_BYTES_MAX:
            raise UsageError(f"decompresses to more than {format_bytes(FILE_BYTES_MAX)}", where=name)
        return out
    except zstandard.ZstdError as e:
        raise UsageError(f"is a damaged zstd file ({e})", where=name, hint="build or fetch it again") from None


def read_source(source: Source, what: str) -> tuple[str, Buffer]:
    """The name and the decompressed bytes of a path, or of bytes called `what`. Raises UsageError."""
    if isinstance(source, bytes):
        return what, _decompress(source, what)
    name = os.fsdecode(source)
    return name, _decompress(_read_file(name), name)


# ---- the kernel ----


def parse_kernel(source: Source) -> Kernel:
    """Checks an ELF vmlinux and reads its program headers. Raises UsageError."""
    name, data = read_source(source, "kernel")
    _check_identity(name, data)
    fields = _EHDR.unpack_from(data)
    _, elf_type, machine, _, entry, phoff, _, _, _, phentsize, phnum, *_ = fields
    if machine != _EM_X86_64:
        raise UsageError(f"is for another processor (ELF machine {machine})", where=name, hint="give an x86-64 vmlinux")
    if elf_type != _ET_EXEC:
        kind = {1: "an object file or a kernel module", 3: "a program or a shared library", 4: "a core dump"}
        raise UsageError(f"is {kind.get(elf_type, 'no executable')}, not a kernel", where=name, hint="give a vmlinux")
    if phentsize != _PHDR.size or phnum == 0:
        raise UsageError("has no program headers", where=name, hint="give the vmlinux that the kernel build links")
    if phoff + phnum * phentsize > len(data):
        raise _truncated(name, phoff + phnum * phentsize, len(data))
    segments = tuple(_load_segments(name, data, phoff, phnum))
    if not any(s.vaddr >= KERNEL_VADDR_MIN for s in segments):
        raise UsageError("is a user program, not a kernel", where=name, hint="give a vmlinux")
    if not any(s.gpa <= entry < s.gpa + s.file_bytes for s in segments):
        raise UsageError(
            f"its entry point {entry:#x} is not at a physical address that it loads",
            where=name,
            hint="give the vmlinux that the kernel build links",
        )
    return Kernel(name, entry, segments, data)


def _truncated(name: str, wanted: int, have: int) -> UsageError:
    return UsageError(
        f"is truncated: its headers speak of {wanted} bytes, the file has {have}",
        where=name,
        hint="build or fetch it again",
    )


def _check_identity(name: str, data: Buffer) -> None:
    """ELF, 64-bit, little-endian, with a whole header."""
    if data[:4] != _ELF_MAGIC:
        hint = "give a vmlinux, plain or zstd-compressed, or a bzImage"
        raise UsageError("is not an ELF file", where=name, hint=hint)
    if len(data) < _EHDR.size:
        raise _truncated(name, _EHDR.size, len(data))
    if data[4] != 2:
        raise UsageError("is a 32-bit ELF file", where=name, hint="give an x86-64 vmlinux")
    if data[5] != 1:
        raise UsageError("is a big-endian ELF file", where=name, hint="give an x86-64 vmlinux")


def _load_segments(name: str, data: Buffer, phoff: int, phnum: int) -> list[Segment]:
    segments: list[Segment] = []
    for i in range(phnum):
        kind, _, offset, vaddr, paddr, filesz, memsz, _ = _PHDR.unpack_from(data, phoff + i * _PHDR.size)
        if kind != _PT_LOAD or memsz == 0:
            continue
        if offset + filesz > len(data):
            raise _truncated(name, offset + filesz, len(data))
        if filesz > memsz:
            raise UsageError(f"program header {i} has more bytes in the file than in memory", where=name)
        if paddr + memsz > 1 << 63:
            raise UsageError(f"program header {i} loads at {paddr:#x}, which no memory reaches", where=name)
        segments.append(Segment(offset, filesz, paddr, memsz, vaddr))
    if not segments:
        raise UsageError("has nothing to load", where=name, hint="give the vmlinux that the kernel build links")
    return segments


# ---- the initramfs ----


def _check_initrd(name: str, data: Buffer) -> None:
    """Raises UsageError for what the kernel could not unpack."""
    if data[:1] == b"\0" or data[:6] in _CPIO_MAGICS:
        return
    if any(data[: len(magic)] == magic for magic in _INITRAMFS_MAGICS):
        _check_compressed(name, data)
        return
    what = "an ELF file" if data[:4] == _ELF_MAGIC else "neither a cpio archive nor a compressed one"
    raise UsageError(
        f"is {what}, so not an initramfs", where=name, hint="give a newc cpio archive, as `cc-tui pack` writes it"
    )


def _check_compressed(name: str, data: Buffer) -> None:
    """Raises UsageError for a compressed file of something else, as a tar archive, where Python can look into it."""
    from .symbols.cpio import inflated

    head = bytes(data[:_LOOKED_INTO_BYTES])
    begin = inflated(head, 6)
    if begin is not head and begin and begin[:1] != b"\0" and begin not in _CPIO_MAGICS:
        hint = "give one, as `cc-tui pack` writes it"
        raise UsageError("compresses something that is no cpio archive, so not an initramfs", where=name, hint=hint)


def _place_initrd(name: str, size: int, kernel: Kernel, memory_bytes: int) -> int:
    """The page-aligned address at the top of memory."""
    gpa = (memory_bytes - size) // _PAGE * _PAGE
    if size > memory_bytes or gpa < kernel.end_gpa:
        room = max(memory_bytes - kernel.end_gpa, 0)
        raise UsageError(
            f"the initramfs of {size} bytes does not fit: {format_bytes(memory_bytes)} of memory leave "
            f"{room} bytes beside the kernel",
            where=name,
            hint="give the machine more memory",
        )
    return gpa


# ---- the zero page ----


def check_cmdline(cmdline: str) -> bytes:
    """The command line as bytes. Raises UsageError for what the kernel could not read."""
    where = "the kernel command line"
    if not cmdline.isascii() or not cmdline.isprintable():
        raise UsageError("has characters that are not printable ASCII", where=where, hint="remove them")
    if len(cmdline) > CMDLINE_BYTES_MAX:
        raise UsageError(
            f"has {len(cmdline)} characters, the kernel reads {CMDLINE_BYTES_MAX}", where=where, hint="shorten it"
        )
    return cmdline.encode("ascii")


_VIRTIO_GPA = 0xD0000000
_VIRTIO_IRQS = {"blk": 5, "net": 6, "rng": 7, "balloon": 9, "console": 10}
"""In the order of the devices' windows of 4 KiB (native/devices/virtio.h)."""


def device_words(names: Sequence[str]) -> list[str]:
    """What a kernel has to be told on its command line about virtio devices (Linux: drivers/virtio/virtio_mmio.c)."""
    return [
        f"virtio_mmio.device=4K@{_VIRTIO_GPA + 0x1000 * window:#x}:{irq}"
        for window, (name, irq) in enumerate(_VIRTIO_IRQS.items())
        if name in names
    ]


def boot_params(cmdline_gpa: int, initrd_gpa: int, initrd_bytes: int, memory_bytes: int) -> bytes:
    """The zero page (struct boot_params, 4096 bytes) for a kernel that came without a setup header of its own."""
    page = bytearray(4096)

    def put(offset: int, layout: str, *values: int) -> None:
        struct.pack_into("<" + layout, page, offset, *values)

    put(0x1FE, "H", 0xAA55)  # boot_flag
    put(0x200, "BB", 0xEB, 0x66)  # jump over the header to its end, 0x268
    page[0x202:0x206] = b"HdrS"
    put(0x206, "H", 0x020F)  # version 2.15
    put(0x210, "B", 0xFF)  # type_of_loader: undefined
    put(0x211, "B", 0x01)  # loadflags: LOADED_HIGH
    put(0x218, "II", initrd_gpa, initrd_bytes)  # ramdisk_image, ramdisk_size
    put(0x228, "I", cmdline_gpa)  # cmd_line_ptr
    put(0x22C, "I", 0x7FFFFFFF)  # initrd_addr_max
    put(0x230, "I", 0x200000)  # kernel_alignment
    put(0x236, "H", 0x0003)  # xloadflags: KERNEL_64, CAN_BE_LOADED_ABOVE_4G
    put(0x238, "I", CMDLINE_BYTES_MAX)  # cmdline_size
    put(0x250, "Q", SETUP_DATA_GPA)  # setup_data
    ram, reserved = 1, 2
    table = (
        (0, LOW_RAM_END, ram),
        (COVERAGE_GPA, HIGH_RAM_GPA - COVERAGE_GPA, reserved),
        (HIGH_RAM_GPA, memory_bytes - HIGH_RAM_GPA, ram),
    )
    put(0x1E8, "B", len(table))  # e820_entries
    for i, entry in enumerate(table):
        put(0x2D0 + 20 * i, "QQI", *entry)
    return bytes(page)


def setup_data(rng_seed: bytes) -> bytes:
    """The setup_data list: one SETUP_RNG_SEED entry.

    With it the kernel's random numbers are ready before the first process and a function of the machine's seed, instead
    of gathered from interrupt times until getrandom(2) returns.
    """
    return struct.pack("<QII", 0, _SETUP_RNG_SEED, len(rng_seed)) + rng_seed


# ---- all together ----


def read_boot_files(kernel: Source, initrd: Source | None = None) -> BootFiles:
    """Reads and checks kernel and initramfs. Raises UsageError."""
    image = parse_kernel(kernel)
    if initrd is None:
        return BootFiles(image)
    name, data = read_source(initrd, "initramfs")
    _check_initrd(name, data)
    return BootFiles(image, name, data)


def plan_boot(files: BootFiles, cmdline: str, memory_bytes: int, rng_seed: bytes = b"") -> BootPlan:
    """Places kernel, initramfs and command line in memory. Raises UsageError where something does not fit.

    rng_seed: what the guest kernel's random number generator starts from, usually 32 bytes.
    """
    line = check_cmdline(cmdline)
    image = files.kernel
    if image.end_gpa > memory_bytes:
        raise UsageError(
            f"the kernel needs memory up to {format_bytes(image.end_gpa)}, the machine has "
            f"{format_bytes(memory_bytes)}",
            where=image.name,
            hint="give the machine more memory",
        )
    lowest = min(s.gpa for s in image.segments)
    if lowest < HIGH_RAM_GPA:
        raise UsageError(f"the kernel loads at {lowest:#x}, below 1 MiB, where the boot tables are", where=image.name)
    pieces: list[tuple[int, Buffer]] = [
        (s.gpa, memoryview(image.image)[s.file_offset : s.file_offset + s.file_bytes])
        for s in image.segments
        if s.file_bytes
    ]
    initrd_gpa = initrd_bytes = 0
    if files.initrd is not None:
        initrd_bytes = len(files.initrd)
        initrd_gpa = _place_initrd(files.initrd_name, initrd_bytes, image, memory_bytes)
        pieces.append((initrd_gpa, files.initrd))
    pieces.append((CMDLINE_GPA, line + b"\0"))
    pieces.append((SETUP_DATA_GPA, setup_data(rng_seed)))
    pieces.append((ZERO_PAGE_GPA, boot_params(CMDLINE_GPA, initrd_gpa, initrd_bytes, memory_bytes)))
    return BootPlan(tuple(pieces), image.entry, ZERO_PAGE_GPA, STACK_GPA, TABLES_GPA, initrd_gpa)
